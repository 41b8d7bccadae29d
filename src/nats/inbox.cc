#include "nats/inbox.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/clock.h"

namespace aurora {
namespace {

std::string new_subject() {
  natsInbox* inbox = nullptr;
  if (natsInbox_Create(&inbox) != NATS_OK) return "";
  const std::string subject = inbox;
  natsInbox_Destroy(inbox);
  return subject;
}

// Of an earlier use. The library does not say whom an answer "no responders" is for, so next()
// alone could not tell.
void drop_waiting(natsSubscription* sub) {
  int waiting = 0;
  if (natsSubscription_GetPending(sub, &waiting, nullptr) != NATS_OK) return;
  for (natsMsg* got = nullptr; waiting > 0; --waiting, got = nullptr) {
    natsSubscription_NextMsg(&got, sub, 1);
    natsMsg_Destroy(got);
  }
}

}  // namespace

std::span<const std::byte> NatsMessage::data() const {
  return {reinterpret_cast<const std::byte*>(natsMsg_GetData(msg_.get())),
          static_cast<size_t>(natsMsg_GetDataLength(msg_.get()))};
}

std::string_view NatsMessage::text() const {
  return {natsMsg_GetData(msg_.get()), static_cast<size_t>(natsMsg_GetDataLength(msg_.get()))};
}

std::string NatsMessage::header(const char* name) const {
  const char* value = nullptr;
  return natsMsgHeader_Get(msg_.get(), name, &value) == NATS_OK && value ? value : "";
}

int NatsMessage::status() const { return std::atoi(header("Status").c_str()); }

// The first call waits for the library's threads.
NatsHandle::~NatsHandle() {
  natsConnection_Close(connection_);
  for (const Subscription& idle : idle_) natsSubscription_Destroy(idle.sub);
  natsConnection_Destroy(connection_);
}

natsStatus NatsHandle::take(Subscription& out) {
  if (take_idle(out)) {
    drop_waiting(out.sub);
    return NATS_OK;
  }
  Subscription made;
  made.base = new_subject();
  natsStatus code =
      natsConnection_SubscribeSync(&made.sub, connection_, (made.base + ".>").c_str());
  if (code == NATS_OK) code = natsSubscription_SetPendingLimits(made.sub, -1, -1);
  if (code == NATS_OK) out = std::move(made);
  else if (made.sub != nullptr) put_back(std::move(made));
  return code;
}

bool NatsHandle::take_idle(Subscription& out) {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return false;
  out = std::move(idle_.back());
  idle_.pop_back();
  return true;
}

void NatsHandle::put_back(Subscription subscription) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(subscription));
}

NatsInbox::NatsInbox(std::shared_ptr<NatsHandle> handle, NatsHandle::Subscription subscription)
    : handle_(std::move(handle)), subscription_(std::move(subscription)) {
  subject_ = subscription_.base + "." + std::to_string(++subscription_.uses);
}

NatsInbox::~NatsInbox() {
  if (handle_) handle_->put_back(std::move(subscription_));
}

Result<std::optional<NatsMessage>> NatsInbox::next(int64_t wait_ms) {
  const int64_t give_up_us = steady_us() + wait_ms * 1000;
  while (true) {
    natsMsg* got = nullptr;
    const int64_t left_ms = std::max<int64_t>(1, (give_up_us - steady_us()) / 1000);
    const natsStatus code = natsSubscription_NextMsg(&got, subscription_.sub, left_ms);
    if (code == NATS_TIMEOUT) return std::optional<NatsMessage>();
    if (code != NATS_OK) return Status::unavailable(natsStatus_GetText(code));
    NatsMessage message((NatsMsgPtr(got)));
    const std::string_view to = message.subject();
    const bool ours = to.substr(0, subject_.size()) == subject_ &&
                      (to.size() == subject_.size() || to[subject_.size()] == '.');
    if (ours) return std::optional<NatsMessage>(std::move(message));
    // Else a late answer to an earlier use.
  }
}

}  // namespace aurora
