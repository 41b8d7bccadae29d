// Where answers come to. libnats before 3.6 may touch a subscription that is destroyed while a
// message for it comes in (nats-io/nats.c, issue 637), so none is destroyed before its connection
// is closed: an inbox goes back to its connection and is given out again, with another subject.
#pragma once

#include <nats/nats.h>

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

namespace aurora {

struct FreeNatsMsg {
  void operator()(natsMsg* m) const { natsMsg_Destroy(m); }
};
using NatsMsgPtr = std::unique_ptr<natsMsg, FreeNatsMsg>;

// A message that came in.
class NatsMessage {
 public:
  explicit NatsMessage(NatsMsgPtr msg) : msg_(std::move(msg)) {}
  std::span<const std::byte> data() const;
  std::string_view text() const;
  std::string_view subject() const { return natsMsg_GetSubject(msg_.get()); }
  std::string header(const char* name) const;  // empty: none
  int status() const;                          // of a reply without content: 204, 404, 503; 0: none

 private:
  NatsMsgPtr msg_;
};

// libnats's connection with its subscriptions, which end after it. Thread-safe.
class NatsHandle {
 public:
  struct Subscription {
    natsSubscription* sub = nullptr;
    std::string base;   // it hears base.>
    uint64_t uses = 0;  // base.N is the subject of the N-th
  };

  explicit NatsHandle(natsConnection* connection) : connection_(connection) {}
  ~NatsHandle();
  NatsHandle(const NatsHandle&) = delete;
  NatsHandle& operator=(const NatsHandle&) = delete;

  natsConnection* get() const { return connection_; }
  natsStatus take(Subscription& out);  // an idle one or a new one
  void put_back(Subscription subscription);

 private:
  bool take_idle(Subscription& out);

  natsConnection* const connection_;
  std::mutex mutex_;
  std::vector<Subscription> idle_;  // guarded by mutex_
};

// For one thread. Without bound on what waits in it: the caller knows what it asked for.
class NatsInbox {
 public:
  NatsInbox(std::shared_ptr<NatsHandle> handle, NatsHandle::Subscription subscription);
  ~NatsInbox();
  NatsInbox(NatsInbox&& other) noexcept = default;
  NatsInbox& operator=(NatsInbox&&) = delete;

  // Nobody else knows it. Messages to it and to whatever stands below it (subject.more) come here.
  const std::string& subject() const { return subject_; }
  // nullopt: nothing came in time. unavailable: nobody listens where something was published, or
  // the library gave the connection up: ask for an inbox again.
  Result<std::optional<NatsMessage>> next(int64_t wait_ms);

 private:
  std::shared_ptr<NatsHandle> handle_;  // empty: moved from
  NatsHandle::Subscription subscription_;
  std::string subject_;
};

}  // namespace aurora
