#include "nats/connection.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

struct FreeOptions {
  void operator()(natsOptions* o) const { natsOptions_Destroy(o); }
};
using NatsOptionsPtr = std::unique_ptr<natsOptions, FreeOptions>;

constexpr int64_t kConnectTimeoutMs = 2000;
constexpr int64_t kPingMs = 5000;  // a partition is seen after two of them
constexpr int64_t kWriteDeadlineMs = 5000;
constexpr int64_t kBackoffMinMs = 100;
constexpr int64_t kBackoffMaxMs = 5000;
constexpr int64_t kDialPauseMinMs = 500;
constexpr int64_t kDialPauseMaxMs = 10000;
constexpr int64_t kComplainUs = 60'000'000;
constexpr int kReconnectBufferBytes = 64 << 10;  // senders look at connected() themselves
constexpr std::chrono::milliseconds kPoll(10);

// Half fixed, half random: servers that lost the same broker do not come back at once.
int64_t backoff_ms(int64_t min_ms, int64_t max_ms, int attempts) {
  const int64_t whole = std::min(max_ms, min_ms << std::clamp(attempts, 0, 10));
  static thread_local std::minstd_rand rng(std::random_device{}());
  return whole / 2 + static_cast<int64_t>(rng()) % (whole / 2 + 1);
}

int64_t reconnect_delay_ms(natsConnection*, int attempts, void*) {
  return backoff_ms(kBackoffMinMs, kBackoffMaxMs, attempts);
}

// With a handler the library goes on trying in a thread of its own after the first time.
void first_connect(natsConnection*, void*) {}

natsStatus set_servers(natsOptions* options, const NatsUrl& url) {
  std::vector<const char*> servers;
  for (const std::string& server : url.servers) servers.push_back(server.c_str());
  return natsOptions_SetServers(options, servers.data(), static_cast<int>(servers.size()));
}

// The first call that fails decides.
natsStatus set_behaviour(natsOptions* o, const NatsUrl& url, const std::string& name) {
  const natsStatus results[] = {
      set_servers(o, url),
      natsOptions_SetName(o, name.c_str()),
      natsOptions_SetTimeout(o, kConnectTimeoutMs),
      natsOptions_SetPingInterval(o, kPingMs),
      natsOptions_SetMaxPingsOut(o, 2),
      natsOptions_SetWriteDeadline(o, kWriteDeadlineMs),
      natsOptions_SetMaxReconnect(o, -1),
      natsOptions_SetReconnectBufSize(o, kReconnectBufferBytes),
      natsOptions_SetCustomReconnectDelay(o, reconnect_delay_ms, nullptr),
      natsOptions_SetFailRequestsOnDisconnect(o, true),
      natsOptions_SetRetryOnFailedConnect(o, true, first_connect, nullptr),
  };
  for (const natsStatus result : results) {
    if (result != NATS_OK) return result;
  }
  return NATS_OK;
}

Status unusable(const std::string& file, natsStatus code) {
  return Status::invalid("cannot use " + file + " of the broker URL: " + natsStatus_GetText(code));
}

Status set_security(natsOptions* o, const NatsUrl& url) {
  if (!url.creds.empty()) {
    // The library would read it when it connects, and say nothing.
    if (::access(url.creds.c_str(), R_OK) != 0) {
      return Status::invalid("cannot read " + url.creds +
                             " of the broker URL: " + std::strerror(errno));
    }
    const natsStatus code = natsOptions_SetUserCredentialsFromFiles(o, url.creds.c_str(), nullptr);
    if (code != NATS_OK) return unusable(url.creds, code);
  }
  if (!url.tls) return Status::ok();
  if (natsStatus code = natsOptions_SetSecure(o, true); code != NATS_OK) {
    return unusable("tls://", code);
  }
  if (!url.tls_ca.empty()) {
    const natsStatus code = natsOptions_LoadCATrustedCertificates(o, url.tls_ca.c_str());
    if (code != NATS_OK) return unusable(url.tls_ca, code);
  }
  if (!url.tls_cert.empty()) {
    const natsStatus code =
        natsOptions_LoadCertificatesChain(o, url.tls_cert.c_str(), url.tls_key.c_str());
    if (code != NATS_OK) return unusable(url.tls_cert, code);
  }
  return Status::ok();
}

Result<NatsMsgPtr> make_message(const NatsOutgoing& out) {
  natsMsg* made = nullptr;
  natsStatus code = natsMsg_Create(
      &made, out.subject.c_str(), out.reply.empty() ? nullptr : out.reply.c_str(),
      reinterpret_cast<const char*>(out.data.data()), static_cast<int>(out.data.size()));
  NatsMsgPtr msg(made);
  for (const auto& [name, value] : out.headers) {
    if (code == NATS_OK) code = natsMsgHeader_Set(msg.get(), name, value.c_str());
  }
  if (code != NATS_OK) {
    return Status::internal(std::string("cannot make a message: ") + natsStatus_GetText(code));
  }
  return msg;
}

}  // namespace

Result<std::unique_ptr<NatsConnection>> NatsConnection::open(const NatsUrl& url,
                                                             const std::string& name) {
  std::unique_ptr<NatsConnection> connection(new NatsConnection(url, name));
  Result<Handle> handle = connection->dial();
  if (!handle) return handle.status();
  connection->handle_ = std::move(*handle);
  return connection;
}

Result<NatsConnection::Handle> NatsConnection::dial() const {
  natsOptions* made = nullptr;
  if (natsOptions_Create(&made) != NATS_OK) return Status::internal("libnats gives no options");
  const NatsOptionsPtr options(made);
  if (natsStatus code = set_behaviour(options.get(), url_, name_); code != NATS_OK) {
    return Status::invalid("libnats refuses the broker URL: " +
                           std::string(natsStatus_GetText(code)));
  }
  if (Status status = set_security(options.get(), url_); !status) return status;
  natsConnection* connected = nullptr;
  const natsStatus code = natsConnection_Connect(&connected, options.get());
  Handle handle = connected ? std::make_shared<NatsHandle>(connected) : nullptr;
  if (!handle || (code != NATS_OK && code != NATS_NOT_YET_CONNECTED)) {
    return unavailable("cannot connect", code);
  }
  return handle;
}

// The handle, or a new one where the library gave the last one up. One thread dials; the others go
// on with the old one and learn from it that nobody is there.
NatsConnection::Handle NatsConnection::live() {
  Handle old;  // is let go without the lock
  {
    const std::lock_guard lock(mutex_);
    const natsConnStatus status = natsConnection_Status(handle_->get());
    if (status == NATS_CONN_STATUS_CONNECTED) refused_count_ = 0, complained_us_ = 0;
    if (status != NATS_CONN_STATUS_CLOSED || dialling_ || steady_us() < dial_at_us_) return handle_;
    dialling_ = true;
    old = handle_;
  }
  Result<Handle> fresh = dial();
  const std::lock_guard lock(mutex_);
  dialling_ = false;
  dial_at_us_ = steady_us() + 1000 * backoff_ms(kDialPauseMinMs, kDialPauseMaxMs, refused_count_++);
  if (complained_us_ == 0 || steady_us() - complained_us_ >= kComplainUs) {
    complained_us_ = steady_us();
    LOG_WARN("nats", "%s", (fresh ? refused() : fresh.status()).to_string().c_str());
  }
  if (fresh) handle_ = std::move(*fresh);
  return handle_;
}

// The library gives up after two equal refusals or a failed TLS handshake, and does not always
// remember which.
Status NatsConnection::refused() const {
  return unavailable(
      "the broker refuses this client or its certificate is not trusted; check the credentials and "
      "TLS files that the URL names and the broker's own configuration, it is tried again every 10 "
      "s at most",
      NATS_CONNECTION_CLOSED);
}

bool NatsConnection::connected() {
  return natsConnection_Status(live()->get()) == NATS_CONN_STATUS_CONNECTED;
}

Status NatsConnection::wait_connected(int64_t wait_ms) {
  const int64_t give_up_us = steady_us() + wait_ms * 1000;
  while (!connected()) {
    if (steady_us() >= give_up_us) {
      {
        const std::lock_guard lock(mutex_);
        if (refused_count_ > 0) return refused();
      }
      const char* reason = nullptr;
      const Handle handle = live();  // owns the reason
      const natsStatus last = natsConnection_GetLastError(handle->get(), &reason);
      return unavailable(reason && *reason ? reason : "no broker answers",
                         last == NATS_OK ? NATS_NO_SERVER : last);
    }
    std::this_thread::sleep_for(kPoll);
  }
  return Status::ok();
}

size_t NatsConnection::payload_max() {
  const int64_t bytes = natsConnection_GetMaxPayload(live()->get());
  return bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

Status NatsConnection::unavailable(const char* what, natsStatus code) const {
  std::string servers;
  for (const std::string& server : url_.servers) servers += (servers.empty() ? "" : ",") + server;
  return Status::unavailable(servers + ": " + what + " (" + natsStatus_GetText(code) + ")");
}

Status NatsConnection::publish(const NatsOutgoing& message) {
  Result<NatsMsgPtr> msg = make_message(message);
  if (!msg) return msg.status();
  const natsStatus code = natsConnection_PublishMsg(live()->get(), msg->get());
  return code == NATS_OK ? Status::ok() : unavailable("publish", code);
}

Result<NatsMessage> NatsConnection::request(const std::string& subject, std::string_view body,
                                            int64_t wait_ms) {
  return request(
      {.subject = subject, .reply = {}, .headers = {}, .data = as_bytes(std::span(body))}, wait_ms);
}

Result<NatsMessage> NatsConnection::request(const NatsOutgoing& message, int64_t wait_ms) {
  const Handle handle = live();
  if (natsConnection_Status(handle->get()) != NATS_CONN_STATUS_CONNECTED) {
    return unavailable("request", NATS_CONNECTION_DISCONNECTED);
  }
  Result<NatsMsgPtr> msg = make_message(message);
  if (!msg) return msg.status();
  natsMsg* got = nullptr;
  const natsStatus code =
      natsConnection_RequestMsg(&got, handle->get(), msg->get(), std::max<int64_t>(1, wait_ms));
  if (code != NATS_OK) return unavailable(message.subject.c_str(), code);
  return NatsMessage(NatsMsgPtr(got));
}

Result<NatsInbox> NatsConnection::inbox() {
  Handle handle = live();
  NatsHandle::Subscription subscription;
  const natsStatus code = handle->take(subscription);
  if (code != NATS_OK) return unavailable("subscribe", code);
  return NatsInbox(std::move(handle), std::move(subscription));
}

}  // namespace aurora
