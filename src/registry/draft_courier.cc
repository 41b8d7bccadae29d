#include "registry/draft_courier.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>

#include "base/clock.h"
#include "base/hash_share.h"
#include "base/log.h"
#include "registry/draft_exchange.h"

namespace aurora {
namespace {

constexpr int64_t kConnectWaitMs = 500;
constexpr int64_t kReportsEveryUs = 10'000'000;
constexpr size_t kServersToTurnBack = 2;  // fewer may be one broken machine

// The same after a restart: a host, and which of its state folders.
std::string own_name(const std::string& dir) {
  char host[65] = "";
  ::gethostname(host, sizeof host - 1);
  std::error_code error;
  const auto whole = std::filesystem::absolute(dir, error);
  const auto number = static_cast<unsigned>(hash_share(error ? dir : whole.string()) * 0x1p24);
  char tail[8];
  std::snprintf(tail, sizeof tail, "-%06x", number);
  std::string name = std::string(host) + tail;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '-';
  }
  return name;
}

class Courier final : public DraftCourier {
 public:
  Courier(std::unique_ptr<NatsConnection> connection, Registry registry,
          const DraftCourierOptions& options)
      : options_(options),
        name_(options.name.empty() ? own_name(registry.dir()) : options.name),
        registry_(std::move(registry)),
        connection_(std::move(connection)),
        exchange_(*connection_, options.target),
        thread_([this] { run(); }) {}

  ~Courier() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void run();
  Status look_or_say_why();
  Status look();
  Status look_for_newer();
  Status send_newer();
  Status receive();
  Status report_verdict();
  Status hear_reports();
  Status report_figures();
  static bool due(int64_t& last_us);
  Result<int64_t> newest_here() const;

  const DraftCourierOptions options_;
  const std::string name_;
  Registry registry_;
  const std::unique_ptr<NatsConnection> connection_;
  DraftExchange exchange_;  // from here on: the courier's thread
  bool prepared_ = false;
  std::string complaint_;        // the last one: the same again is not logged
  int64_t version_waiting_ = 0;  // seen on the brokers, and not to be taken before ...
  int64_t due_us_ = 0;           // ... this moment
  int64_t version_broken_ = 0;   // did not fit its manifest: not fetched again
  std::string reported_;
  int64_t heard_us_ = 0, said_us_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

void Courier::run() {
  while (true) {
    const Status status = look_or_say_why();
    if (!status) prepared_ = false;
    const std::string complaint = status ? "" : status.to_string();
    if (!status && complaint != complaint_) {
      LOG_WARN("registry", "drafts are not exchanged: %s", complaint.c_str());
    }
    complaint_ = complaint;
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::milliseconds(options_.poll_ms),
                          [this] { return stopping_; })) {
      break;
    }
  }
  // What was published last goes out before the trainer leaves.
  const bool sends = options_.role == DraftCourierOptions::Role::kTrainer;
  if (sends && connection_->connected()) {
    if (Status status = look_or_say_why(); !status) {
      LOG_WARN("registry", "the last draft stays here: %s", status.to_string().c_str());
    }
  }
}

// What a broker sends is parsed on this thread: nothing of it may end the process.
Status Courier::look_or_say_why() {
  try {
    return look();
  } catch (const std::exception& e) {
    return Status::internal(e.what());
  }
}

Status Courier::look() {
  if (Status status = connection_->wait_connected(kConnectWaitMs); !status) return status;
  if (!prepared_) {
    if (Status status = exchange_.prepare(); !status) return status;
    prepared_ = true;
  }
  if (options_.role == DraftCourierOptions::Role::kServer) {
    if (Status status = look_for_newer(); !status) return status;
    if (Status status = report_verdict(); !status) return status;
    return report_figures();
  }
  if (Status status = send_newer(); !status) return status;
  if (Status status = hear_reports(); !status) return status;
  return report_figures();
}

Status Courier::report_figures() {
  if (!options_.figures || !due(said_us_)) return Status::ok();
  const std::string figures = options_.figures();
  return figures.empty() ? Status::ok() : exchange_.send_figures(name_, figures);
}

// True once every ten seconds, the first time at once.
bool Courier::due(int64_t& last_us) {
  if (last_us != 0 && steady_us() - last_us < kReportsEveryUs) return false;
  last_us = steady_us();
  return true;
}

// Whatever its verdict: numbers only rise.
Result<int64_t> Courier::newest_here() const {
  const auto all = registry_.list();
  if (!all) return all.status();
  return all->empty() ? int64_t{0} : all->back().version;
}

Status Courier::look_for_newer() {
  const auto offered = exchange_.newest();
  if (!offered) return offered.status();
  const auto here = newest_here();
  if (!here) return here.status();
  if (!offered->has_value() || (*offered)->version <= *here) return Status::ok();
  if ((*offered)->version == version_broken_) return Status::ok();
  if (version_waiting_ <= *here) {
    // Chosen once for all that come meanwhile: a stream of versions does not put it off for ever.
    version_waiting_ = (*offered)->version;
    due_us_ = steady_us() +
              static_cast<int64_t>(hash_share(name_) *
                                   static_cast<double>(connection_->url().stagger_s * 1'000'000));
  }
  return steady_us() < due_us_ ? Status::ok() : receive();
}

Status Courier::receive() {
  const bool serves = options_.role == DraftCourierOptions::Role::kServer;
  const auto got =
      exchange_.receive(registry_, serves ? "received.gguf.tmp" : "received.trainer.gguf.tmp");
  const StatusCode code = got ? StatusCode::kOk : got.status().code();
  if (code == StatusCode::kCorrupt) {
    if (const auto offered = exchange_.newest(); offered && offered->has_value()) {
      version_broken_ = (*offered)->version;
    }
    LOG_WARN("registry", "a draft from the brokers is not what its manifest says: %s",
             got.status().to_string().c_str());
    return Status::ok();
  }
  if (code == StatusCode::kExists || code == StatusCode::kNotFound) return Status::ok();
  if (!got) return got.status();
  LOG_INFO("registry", "draft %lld came from the brokers", static_cast<long long>(got->version));
  return registry_.prune(options_.keep, {});
}

// A trainer whose folder is new goes on with the numbers, and from the draft, that servers have.
Status Courier::send_newer() {
  const auto offered = exchange_.newest();
  if (!offered) return offered.status();
  const int64_t there = offered->has_value() ? (*offered)->version : 0;
  const auto here = newest_here();
  if (!here) return here.status();
  if (there > *here && there != version_broken_) return receive();
  const auto newest = registry_.newest(options_.target);
  if (!newest) return newest.status();
  if (!newest->has_value() || (*newest)->version <= there) return Status::ok();
  if (Status status = exchange_.send(registry_, **newest); !status) return status;
  LOG_INFO("registry", "draft %lld went to the brokers",
           static_cast<long long>((*newest)->version));
  return Status::ok();
}

Status Courier::report_verdict() {
  const auto all = registry_.list();
  if (!all) return all.status();
  for (auto manifest = all->rbegin(); manifest != all->rend(); ++manifest) {
    const auto verdict = registry_.verdict(manifest->version);
    if (!verdict || !verdict->has_value()) continue;
    const std::string key = std::to_string(manifest->version) + (*verdict)->reason;
    if (key == reported_) return Status::ok();
    if (Status status = exchange_.report({name_, **verdict}); !status) return status;
    reported_ = key;
    return Status::ok();
  }
  return Status::ok();
}

// What several servers sent back, and more than keep it, does not count as the draft in service for
// the trainer's gate.
Status Courier::hear_reports() {
  if (!due(heard_us_)) return Status::ok();
  const auto reports = exchange_.reports();
  if (!reports) return reports.status();
  struct Votes {
    size_t serve = 0, against = 0;
    DraftVerdict last;
  };
  std::map<int64_t, Votes> votes;
  for (const DraftReport& report : *reports) {
    Votes& v = votes[report.verdict.version];
    const bool serves = report.verdict.kind == DraftVerdict::Kind::kServing;
    ++(serves ? v.serve : v.against);
    if (!serves) v.last = report.verdict;
  }
  for (const auto& [version, v] : votes) {
    if (v.against < kServersToTurnBack || v.against <= v.serve) continue;
    const auto known = registry_.verdict(version);
    if (!known || known->has_value()) continue;
    DraftVerdict verdict = v.last;
    verdict.reason = std::to_string(v.against) + " servers, the last: " + v.last.reason;
    LOG_WARN("registry", "draft %lld: %s", static_cast<long long>(version), verdict.reason.c_str());
    if (Status status = registry_.write_verdict(verdict); !status) return status;
  }
  return Status::ok();
}

}  // namespace

Result<std::unique_ptr<DraftCourier>> start_draft_courier(const NatsUrl& url, Registry registry,
                                                          const DraftCourierOptions& options) {
  const bool serves = options.role == DraftCourierOptions::Role::kServer;
  auto connection =
      NatsConnection::open(url, serves ? "aurora-serve drafts" : "aurora-train drafts");
  if (!connection) return connection.status();
  return std::unique_ptr<DraftCourier>(
      std::make_unique<Courier>(std::move(*connection), std::move(registry), options));
}

}  // namespace aurora
