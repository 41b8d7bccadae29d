#include "registry/draft_exchange.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "nats/jetstream.h"
#include "nats/preface.h"
#include "registry/manifest.h"

namespace aurora {
namespace {

constexpr uint64_t kStreamBytesMax = 2ull << 30;  // of all drafts held; the oldest leave
constexpr int64_t kReportAgeS = 86400;            // a server that is gone is forgotten
constexpr size_t kPieceBytesMax = 512u << 10;
constexpr size_t kHeaderRoomBytes = 1024;
constexpr size_t kPiecesAtOnce = 16;
constexpr size_t kReportBytesMax = 64u << 10;
constexpr std::string_view kSaidAt = "aurora:said_ms";  // first sample of a member's figures

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePtr = std::unique_ptr<std::FILE, CloseFile>;

// For this user alone; nothing is written through a link that lies there.
Result<FilePtr> create_file(const std::string& path) {
  ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  FilePtr file(fd >= 0 ? ::fdopen(fd, "wb") : nullptr);
  if (file) return file;
  Status status = Status::io("cannot create " + path + ": " + std::strerror(errno));
  if (fd >= 0) ::close(fd);
  return status;
}

Status send_text(NatsConnection& connection, const std::string& subject, const std::string& text) {
  return publish_confirmed(connection, {.subject = connection.url().prefix + subject,
                                        .reply = {},
                                        .headers = {},
                                        .data = as_bytes(std::span(text))})
      .status();
}

// The broker says in a header on which subject it lay.
std::string name_of(const StoredMessage& stored, const std::string& prefix) {
  const std::string subject = stored.message.header("Nats-Subject");
  return subject.substr(std::min(prefix.size(), subject.size()));
}

}  // namespace

Status DraftExchange::prepare() {
  const NatsUrl& url = connection_.url();
  const StreamConfig drafts{.name = stream(),
                            .subjects = url.prefix + ".drafts.>",
                            .bytes_max = kStreamBytesMax,
                            .replicas = url.replicas};
  if (Status status = ensure_stream(connection_, drafts, false); !status) return status;
  const StreamConfig reports{.name = reports_stream(),
                             .subjects = url.prefix + ".reports.>",
                             .age_s = kReportAgeS,
                             .per_subject_max = 1,
                             .replicas = url.replicas};
  return ensure_stream(connection_, reports, false);
}

Status DraftExchange::send(const Registry& registry, const DraftManifest& manifest) {
  const std::string path = registry.gguf_path(manifest.version);
  const FilePtr file(std::fopen(path.c_str(), "rbe"));
  if (!file) return Status::io("cannot open " + path + ": " + std::strerror(errno));
  const size_t payload = connection_.payload_max();
  if (payload <= 2 * kHeaderRoomBytes)
    return Status::unavailable("no broker, or one for small messages");
  const std::string prefix = connection_.url().prefix + ".drafts.";
  Preface preface{.bytes = manifest.bytes, .expires_ms = 0, .pieces = {}};
  std::vector<std::byte> piece(std::min(payload - kHeaderRoomBytes, kPieceBytesMax));
  while (const size_t got = std::fread(piece.data(), 1, piece.size(), file.get())) {
    const auto stored = publish_confirmed(connection_, {.subject = prefix + "piece",
                                                        .reply = {},
                                                        .headers = {},
                                                        .data = std::span(piece).first(got)});
    if (!stored) return stored.status();
    preface.pieces.push_back(*stored);
  }
  const std::string text = encode_manifest(manifest);
  const std::vector<std::byte> whole = with_preface(preface, as_bytes(std::span(text)));
  return publish_confirmed(
             connection_,
             {.subject = prefix + "manifest." + target_, .reply = {}, .headers = {}, .data = whole})
      .status();
}

Result<DraftExchange::Offer> DraftExchange::offer() {
  const auto last =
      fetch_last(connection_, stream(), connection_.url().prefix + ".drafts.manifest." + target_);
  if (!last) return last.status();
  std::span<const std::byte> rest = last->message.data();
  Result<Preface> preface = take_preface(rest);
  if (!preface) return preface.status();
  Result<DraftManifest> manifest =
      decode_manifest({reinterpret_cast<const char*>(rest.data()), rest.size()});
  if (!manifest) return manifest.status();
  if (manifest->target != target_) return Status::corrupt("a manifest of another target");
  return Offer{std::move(*manifest), std::move(preface->pieces)};
}

Result<std::optional<DraftManifest>> DraftExchange::newest() {
  Result<Offer> found = offer();
  if (found) return std::optional<DraftManifest>(std::move(found->manifest));
  if (found.status().code() == StatusCode::kNotFound) return std::optional<DraftManifest>{};
  return found.status();
}

Result<DraftManifest> DraftExchange::receive(Registry& registry, const std::string& temporary) {
  Result<Offer> found = offer();
  if (!found) return found.status();
  const DraftManifest& manifest = found->manifest;
  const Result<std::vector<DraftManifest>> here = registry.list();
  if (!here) return here.status();
  if (!here->empty() && here->back().version >= manifest.version) {
    return Status::exists("draft " + std::to_string(manifest.version) + " is here already");
  }
  const std::string staged = registry.dir() + "/" + temporary;
  Status status = write_pieces(*found, staged);
  if (status) status = registry.adopt(staged, manifest);
  if (!status) {
    ::unlink(staged.c_str());
    return status;
  }
  return manifest;
}

Status DraftExchange::write_pieces(const Offer& offer, const std::string& path) {
  const Result<FilePtr> file = create_file(path);
  if (!file) return file.status();
  uint64_t bytes = 0;
  for (size_t begin = 0; begin < offer.pieces.size(); begin += kPiecesAtOnce) {
    const auto first = offer.pieces.begin() + static_cast<ptrdiff_t>(begin);
    const size_t count = std::min(kPiecesAtOnce, offer.pieces.size() - begin);
    auto pieces = fetch_each(connection_, stream(), {first, first + static_cast<ptrdiff_t>(count)});
    if (!pieces) return pieces.status();
    if (pieces->size() < count) return Status::not_found("pieces of the newest draft are gone");
    std::sort(pieces->begin(), pieces->end(), [](const StoredMessage& a, const StoredMessage& b) {
      return a.sequence < b.sequence;
    });
    for (const StoredMessage& piece : *pieces) {
      const std::span<const std::byte> data = piece.message.data();
      bytes += data.size();
      if (bytes > offer.manifest.bytes) return Status::corrupt("more bytes than its manifest says");
      if (std::fwrite(data.data(), 1, data.size(), file->get()) != data.size()) {
        return Status::io("cannot write " + path + ": " + std::strerror(errno));
      }
    }
  }
  if (std::fflush(file->get()) != 0) {
    return Status::io("cannot write " + path + ": " + std::strerror(errno));
  }
  return Status::ok();
}

Status DraftExchange::report(const DraftReport& report) {
  return send_text(connection_, ".reports.verdict." + report.server,
                   encode_verdict(report.verdict));
}

Result<std::vector<StoredMessage>> DraftExchange::last_of_each(const std::string& prefix,
                                                               size_t count_max) {
  return fetch(connection_, {.stream = reports_stream(),
                             .subject = prefix + "*",
                             .first = 1,
                             .count = count_max,
                             .bytes_max = count_max * kReportBytesMax});
}

Result<std::vector<DraftReport>> DraftExchange::reports(size_t count_max) {
  const std::string prefix = connection_.url().prefix + ".reports.verdict.";
  const auto messages = last_of_each(prefix, count_max);
  if (!messages) return messages.status();
  std::vector<DraftReport> reports;
  for (const StoredMessage& one : *messages) {
    Result<DraftVerdict> verdict = decode_verdict(std::string(one.message.text()));
    if (!verdict) continue;  // another program's words
    reports.push_back({name_of(one, prefix), std::move(*verdict)});
  }
  return reports;
}

Status DraftExchange::send_figures(const std::string& name, const std::string& text) {
  if (text.size() > kReportBytesMax) return Status::invalid("figures of too many bytes");
  const std::string dated = std::string(kSaidAt) + " " + std::to_string(unix_ms()) + "\n" + text;
  return send_text(connection_, ".reports.figures." + name, dated);
}

Result<std::vector<MemberFigures>> DraftExchange::figures(size_t count_max) {
  const std::string prefix = connection_.url().prefix + ".reports.figures.";
  const auto messages = last_of_each(prefix, count_max);
  if (!messages) return messages.status();
  std::vector<MemberFigures> all;
  for (const StoredMessage& one : *messages) {
    const std::string text(one.message.text());
    if (text.rfind(kSaidAt, 0) != 0) continue;
    const int64_t said_ms = std::strtoll(text.c_str() + kSaidAt.size(), nullptr, 10);
    all.push_back({name_of(one, prefix), unix_ms() - said_ms, text});
  }
  return all;
}

}  // namespace aurora
