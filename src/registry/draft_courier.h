// Keeps a registry and the drafts on the brokers alike, on a thread of its own: a trainer's new
// versions go out, a server's registry gets the newest one, after a wait of its own so that a
// fleet does not swap at once. Serving sees files in its registry and nothing of this.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/status.h"
#include "nats/nats_url.h"
#include "registry/registry.h"

namespace aurora {

struct DraftCourierOptions {
  enum class Role { kServer, kTrainer } role = Role::kServer;
  std::string target;  // fingerprint
  std::string name;    // of this server in its reports; empty: host and folder of the registry
  int64_t poll_ms = 2000;
  size_t keep = 8;  // newest files that stay in a server's registry
  // Metrics to report every ten seconds, called on the courier's thread; empty: none. It outlives
  // the courier.
  std::function<std::string()> figures;
};

// Destroying it waits for the message it is at, and in a trainer for its newest version to go out:
// seconds at most, nothing where no broker answers.
class DraftCourier {
 public:
  virtual ~DraftCourier() = default;
};

// Returns at once, whether a broker answers or not. invalid: a file of the URL is unusable, or this
// build has no NATS client.
Result<std::unique_ptr<DraftCourier>> start_draft_courier(const NatsUrl& url, Registry registry,
                                                          const DraftCourierOptions& options);

}  // namespace aurora
