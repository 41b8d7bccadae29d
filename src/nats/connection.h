// One connection to a NATS cluster: libnats is wrapped here and in inbox.h, alone in src to include
// it. Opening tries each broker of the URL once (two seconds where one takes the connection and
// says nothing) and returns whether one answers or not; the library's own thread connects, and
// connects again after a loss, with back-off from 0.1 to 5 s and a random part, for ever. Where a
// broker refuses the credentials twice, or a TLS handshake fails, the library gives up: then any
// call opens the connection anew, with back-off from 0.5 to 10 s, and with the files of the URL as
// they are by then. No callback of ours runs on the library's threads. Thread-safe; an inbox is for
// one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "nats/inbox.h"
#include "nats/nats_url.h"

namespace aurora {

struct NatsOutgoing {
  std::string subject;
  std::string reply;  // empty: none wanted
  std::vector<std::pair<const char*, std::string>> headers;
  std::span<const std::byte> data;
};

class NatsConnection {
 public:
  // `name` is what the broker's lists of connections show. invalid: a file of the URL is unusable.
  static Result<std::unique_ptr<NatsConnection>> open(const NatsUrl& url, const std::string& name);

  bool connected();
  // unavailable after `wait_ms`: names the brokers and, where the library knows one, the reason.
  Status wait_connected(int64_t wait_ms);
  size_t payload_max();  // of a message with its headers; 0 before the first connection

  // Hands over to the library; does not wait for the broker to take it.
  Status publish(const NatsOutgoing& message);
  // The one answer. unavailable: no connection, nobody listens, or none came in time.
  Result<NatsMessage> request(const std::string& subject, std::string_view body, int64_t wait_ms);
  Result<NatsMessage> request(const NatsOutgoing& message, int64_t wait_ms);
  Result<NatsInbox> inbox();  // for answers to what is published

  const NatsUrl& url() const { return url_; }

 private:
  using Handle = std::shared_ptr<NatsHandle>;  // each call keeps the one that it began with

  NatsConnection(NatsUrl url, std::string name) : url_(std::move(url)), name_(std::move(name)) {}
  Result<Handle> dial() const;
  Handle live();
  Status refused() const;
  Status unavailable(const char* what, natsStatus code) const;

  const NatsUrl url_;
  const std::string name_;

  std::mutex mutex_;
  Handle handle_;              // guarded by mutex_, as are the next four
  bool dialling_ = false;      // one thread, without the lock
  int refused_count_ = 0;      // since it was connected
  int64_t dial_at_us_ = 0;     // not before
  int64_t complained_us_ = 0;  // 0: not since it was connected
};

}  // namespace aurora
