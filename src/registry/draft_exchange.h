// Drafts between hosts: a trainer sends the versions of its registry into a stream, every server
// takes the newest into its own. Streams and messages: docs/draft-registry.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nats/jetstream.h"
#include "registry/registry.h"

namespace aurora {

// What one server found about one version.
struct DraftReport {
  std::string server;
  DraftVerdict verdict;
};

// What a server or trainer last said of itself.
struct MemberFigures {
  std::string name;
  int64_t age_ms = 0;  // since it said so, by this machine's clock and its own
  std::string text;    // metrics, in the text exposition format
};

// Every call waits for a broker, seconds at most for each message; kUnavailable when none answers.
// One thread.
class DraftExchange {
 public:
  // `target`: fingerprint; only its drafts are seen. The connection outlives the exchange.
  DraftExchange(NatsConnection& connection, std::string target)
      : connection_(connection), target_(std::move(target)) {}

  // Makes the streams that are missing; before the others, and again after kUnavailable.
  Status prepare();
  // The file in pieces, then the manifest. A sender that dies leaves pieces that nothing names.
  Status send(const Registry& registry, const DraftManifest& manifest);
  Result<std::optional<DraftManifest>> newest();  // nullopt: none yet
  // The newest version, checked, into the registry. exists: it is there, or a later one. not_found:
  // none, or its pieces are gone. corrupt: size or sha256 is not the manifest's.
  // `temporary` is the name of the unfinished file in it: one for each process that receives.
  Result<DraftManifest> receive(Registry& registry,
                                const std::string& temporary = "received.gguf.tmp");

  // The last one of each server is kept. server: letters, digits, - and _.
  Status report(const DraftReport& report);
  Result<std::vector<DraftReport>> reports(size_t count_max = 4096);

  // The last figures of each server and trainer, in the text exposition format.
  Status send_figures(const std::string& name, const std::string& text);
  Result<std::vector<MemberFigures>> figures(size_t count_max = 4096);

 private:
  struct Offer {
    DraftManifest manifest;
    std::vector<uint64_t> pieces;
  };
  Result<Offer> offer();
  Status write_pieces(const Offer& offer, const std::string& path);
  Result<std::vector<StoredMessage>> last_of_each(const std::string& prefix, size_t count_max);
  std::string stream() const { return connection_.url().prefix + "_drafts"; }
  std::string reports_stream() const { return connection_.url().prefix + "_reports"; }

  NatsConnection& connection_;
  const std::string target_;
};

}  // namespace aurora
