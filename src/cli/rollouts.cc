#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <future>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/rollout_options.h"
#include "cli/rollout_queue.h"
#include "nats/nats_url.h"
#include "registry/target_fingerprint.h"
#include "replay/http_client.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

constexpr size_t kReadRecords = 16;
constexpr size_t kReadBytes = 64u << 20;
constexpr double kAfterFailureS = 30;
constexpr auto kPoll = std::chrono::milliseconds(50);
constexpr auto kAwayPause = std::chrono::seconds(1);
constexpr int kPollsBetweenReads = 10;
// A record's expiry counts from its end, a rollout's from its beginning: it must be through by
// then.
constexpr int64_t kExpiryMarginS = 120;

std::atomic<bool> g_stop{false};

// Says a thing once, until another or nothing is said.
class Complaint {
 public:
  void say(const std::string& text) {
    if (text != said_ && !text.empty()) LOG_WARN("rollouts", "%s", text.c_str());
    said_ = text;
  }

 private:
  std::string said_;
};

class Rollouts {
 public:
  Rollouts(const RolloutOptions& options, std::string target)
      : options_(options),
        target_(std::move(target)),
        queue_(options.each, static_cast<size_t>(options.prompts)),
        random_(std::random_device{}()) {
    if (const auto url = parse_nats_url(options.buffer)) age_ms_ = url->age_s * 1000;
  }

  Status run() {
    Status status = Status::ok();
    for (int polls = 0; !g_stop && status; ++polls) {
      collect();
      if (in_flight_max_ == 0) status = find_server();
      if (status && polls % kPollsBetweenReads == 0) status = read_new_traces();
      if (options_.once && traces_ && in_flight_.empty() && queue_.done(too_soon_ms())) break;
      if (in_flight_max_ > 0 && steady_us() >= not_before_us_) begin_one();
      std::this_thread::sleep_for(kPoll);
    }
    for (InFlight& one : in_flight_) one.client->stop();
    return status;
  }

 private:
  struct InFlight {
    uint64_t of = 0;
    std::unique_ptr<ServerClient> client;
    std::future<Result<RolloutEnd>> end;
  };

  // It may be loading its model, or away.
  Status find_server() {
    ServerClient server(options_.url, options_.api_key);
    const Status ready = server.wait_ready(0);
    const auto slots = ready ? server.slots() : Result<int>(ready);
    if (!slots) {
      if (slots.status().code() == StatusCode::kInvalid) return slots.status();
      server_.say(options_.url + ": " + slots.status().message());
      std::this_thread::sleep_for(kAwayPause);
      return Status::ok();
    }
    server_.say("");
    in_flight_max_ = static_cast<size_t>(std::max(1, *slots));
    if (options_.in_flight > 0)
      in_flight_max_ = std::min(in_flight_max_, static_cast<size_t>(options_.in_flight));
    return Status::ok();
  }

  Status read_new_traces() {
    if (!traces_) {
      if (Status s = open_traces(); !s || !traces_) return s;
    }
    const auto stats = traces_->stats();
    if (stats && stats->last_sequence < read_to_) {  // the traces were made anew
      forget_prompts();
    }
    for (size_t read = kReadRecords; read == kReadRecords && !g_stop;) {
      const auto records = traces_->read(read_to_, kReadRecords, kReadBytes);
      buffer_.say(records ? "" : "reading traces: " + records.status().to_string());
      if (!records) {
        // Damaged or moved away: the server begins another, which is opened next.
        if (records.status().code() == StatusCode::kCorrupt) forget_traces();
        break;
      }
      for (const StoredRecord& stored : *records) take(stored);
      read = records->size();
    }
    return Status::ok();
  }

  void forget_prompts() {
    queue_ = RolloutQueue(options_.each, static_cast<size_t>(options_.prompts));
    read_to_ = history_ = 0;
  }
  void forget_traces() {
    traces_.reset();
    forget_prompts();
  }

  // The server may not have made them yet.
  Status open_traces() {
    TraceBufferOptions options;
    options.dir = options_.state + "/traces";
    options.role = TraceBufferOptions::Role::kReader;
    auto opened = open_trace_buffer(options_.buffer, options);
    if (!opened) {
      const StatusCode code = opened.status().code();
      if (code == StatusCode::kCorrupt || code == StatusCode::kInvalid) return opened.status();
      buffer_.say("waiting for traces: " + opened.status().message());
      return Status::ok();
    }
    const auto stats = (*opened)->stats();
    if (!stats) return Status::ok();
    traces_ = std::move(*opened);
    history_ = stats->last_sequence;
    const uint64_t far =
        static_cast<uint64_t>(options_.prompts) * (static_cast<uint64_t>(options_.each) + 1);
    read_to_ = history_ > far ? history_ - far : 0;
    return Status::ok();
  }

  void take(const StoredRecord& stored) {
    read_to_ = stored.sequence;
    const TraceRecord& record = stored.record;
    if (record.target != target_) {
      LOG_DEBUG("rollouts", "a trace of another target is left alone");
      return;
    }
    if (record.rollout_of != 0) {
      if (stored.sequence <= history_) queue_.count(record.rollout_of, 1);
      return;
    }
    // The broker's bound on age is no part of the record.
    const int64_t aged_ms = age_ms_ > 0 ? record.created_ms + age_ms_ : 0;
    const int64_t expires_ms = record.expires_ms == 0 || aged_ms == 0
                                   ? std::max(record.expires_ms, aged_ms)
                                   : std::min(record.expires_ms, aged_ms);
    queue_.add(record, expires_ms);
  }

  // What expires by then is not answered again.
  static int64_t too_soon_ms() { return unix_ms() + kExpiryMarginS * 1000; }

  // One a poll: where the server is busy, one is refused and not all of them.
  void begin_one() {
    if (in_flight_.size() >= in_flight_max_) return;
    const int64_t soon_ms = too_soon_ms();
    auto prompt = queue_.next(soon_ms);
    if (!prompt) return;
    RolloutRequest request;
    request.prompt = std::move(prompt->tokens);
    request.of = prompt->of;
    request.tenant = std::move(prompt->tenant);
    request.domain = std::move(prompt->domain);
    if (prompt->expires_ms != 0) request.expires_in_s = (prompt->expires_ms - soon_ms) / 1000 + 1;
    request.tokens_max = options_.tokens_max;
    request.temperature = options_.temperature;
    request.seed = static_cast<uint32_t>(random_());
    InFlight one;
    one.of = request.of;
    one.client = std::make_unique<ServerClient>(options_.url, options_.api_key);
    one.end = std::async(std::launch::async, [client = one.client.get(), request] {
      return client->roll_out(request);
    });
    in_flight_.push_back(std::move(one));
  }

  // Those that ended leave. What did not begin may come again.
  void collect() {
    std::erase_if(in_flight_, [this](InFlight& one) {
      if (one.end.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
      const auto end = one.end.get();
      if (end && end->whole) {
        server_.say("");
        return true;
      }
      if (!end) server_.say(end.status().message());
      if (!end && end.status().code() == StatusCode::kInvalid) return true;
      if (!end) in_flight_max_ = 0;  // it may come back with other slots
      else if (end->began) LOG_INFO("rollouts", "gave way to a request");
      if (!end || !end->began) queue_.count(one.of, -1);
      const double pause_s = end ? options_.idle_s : kAfterFailureS;
      not_before_us_ = steady_us() + static_cast<int64_t>(pause_s * 1e6);
      return true;
    });
  }

  const RolloutOptions options_;
  const std::string target_;
  int64_t age_ms_ = 0;  // of the stream; 0: no bound
  std::unique_ptr<TraceBuffer> traces_;
  uint64_t read_to_ = 0, history_ = 0;  // sequence numbers; history: from before this process
  RolloutQueue queue_;
  std::mt19937_64 random_;
  size_t in_flight_max_ = 0;  // 0: the server has to be found first
  int64_t not_before_us_ = 0;
  std::vector<InFlight> in_flight_;
  Complaint server_, buffer_;
};

int fail(const Status& status, int exit_code) {
  std::fprintf(stderr, "aurora rollouts: %s\n", status.message().c_str());
  return exit_code;
}

}  // namespace

int rollouts_main(const Words& args) {
  follow_parent();
  const auto options = parse_rollout_options(args);
  if (!options) return fail(options.status(), 2);
  if (options->help) return print_help(rollout_command);
  if (Status s = check_buffer_url(options->buffer); !s) return fail(s, 2);
  lower_priority(kIdleClass);
  offer_to_oom_killer();
  auto target = target_fingerprint(options->model);
  if (!target) return fail(target.status(), 2);
  for (int signal_number : {SIGTERM, SIGINT})
    std::signal(signal_number, [](int) { g_stop = true; });
  const Status status = Rollouts(*options, *target).run();
  return status ? 0 : fail(status, 2);
}

}  // namespace aurora
