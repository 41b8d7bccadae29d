#include "replay/replay.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/log.h"
#include "replay/http_client.h"
#include "replay/plot.h"
#include "replay/replay_options.h"
#include "replay/report.h"
#include "replay/text.h"
#include "replay/traffic.h"

namespace aurora {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kFailuresKept = 5;
constexpr double kReadySecondsMax = 120;
constexpr int kBarCells = 24;
constexpr size_t kLogEveryRequests = 10;  // where stderr is no terminal

std::atomic<bool> g_interrupted{false};

double at(const std::map<std::string, double>& metrics, const char* name) {
  const auto found = metrics.find(name);
  return found == metrics.end() ? 0 : found->second;
}

constexpr const char* kGenerated = "aurora:generated_tokens_total";
constexpr const char* kSteps = "aurora:target_steps_total";

Totals totals_of(const std::map<std::string, double>& metrics) {
  return {.generated_tokens = at(metrics, kGenerated),
          .target_steps = at(metrics, kSteps),
          .draft_version = static_cast<int64_t>(at(metrics, "aurora:draft_version")),
          .swaps = static_cast<int64_t>(at(metrics, "aurora:swaps_total"))};
}

// One replay: request workers in rounds, a report that grows behind a lock, one live line.
class Replay {
 public:
  Replay(const ReplayOptions& options, std::vector<Prompt> prompts)
      : options_(options),
        prompts_(std::move(prompts)),
        metrics_client_(options.url, options.api_key),
        on_terminal_(isatty(STDERR_FILENO) == 1) {}

  Status start();
  void run();
  Report take_report();

 private:
  using Answers = std::vector<std::optional<Answer>>;  // by prompt, empty where the request failed

  Answers serve_round(size_t first, size_t last);
  void baseline_round(size_t first, const Answers& served);
  void work(size_t first, size_t last, std::atomic<size_t>* next, Answers* answers);
  void record(const Prompt& prompt, const Result<Answer>& answer);
  void fail(const Prompt& prompt, const Status& status);
  Totals totals_after(const Answer& answer);
  ChatRequest request_of(const Prompt& prompt, bool speculate) const;
  void show(const Prompt& prompt);

  const ReplayOptions options_;
  const std::vector<Prompt> prompts_;
  ServerClient metrics_client_;  // under mutex_ while workers run
  const bool on_terminal_;
  Clock::time_point began_;
  std::mutex mutex_;
  Report report_;               // under mutex_
  Totals last_;                 // under mutex_: newest totals, baseline rounds taken out
  double baseline_tokens_ = 0;  // under mutex_: what baseline rounds added to the server's totals
  double baseline_steps_ = 0;
  bool baseline_works_ = true;
};

Status Replay::start() {
  if (Status status = metrics_client_.wait_ready(kReadySecondsMax); !status) {
    return Status::unavailable("no server at " + options_.url + " (" + status.message() + ")");
  }
  const auto metrics = metrics_client_.metrics();
  const bool has_figures = metrics && metrics.value().count(kSteps) > 0;
  report_.accept_source = has_figures ? "metrics" : "timings";
  if (has_figures) last_ = totals_of(*metrics);
  report_.start = last_;
  report_.settings = {{"url", options_.url},
                      {"order", options_.traffic.mixed ? "mixed" : "sequential"},
                      {"concurrency", std::to_string(options_.concurrency)},
                      {"max tokens", std::to_string(options_.tokens_max)},
                      {"temperature", printed("%g", options_.temperature)},
                      {"seed", std::to_string(options_.traffic.seed)}};
  std::string names;
  for (const std::string& file : options_.files) {
    names += (names.empty() ? "" : ", ") + file.substr(file.find_last_of('/') + 1);
  }
  report_.settings.emplace_back("traffic", names);
  return Status::ok();
}

void Replay::run() {
  began_ = Clock::now();
  const size_t round = options_.baseline_every == 0 ? prompts_.size() : options_.baseline_every;
  for (size_t first = 0; first < prompts_.size() && !g_interrupted; first += round) {
    const size_t last = std::min(prompts_.size(), first + round);
    const Answers answers = serve_round(first, last);
    if (options_.baseline_every != 0 && baseline_works_) baseline_round(first, answers);
  }
  if (on_terminal_) std::fputc('\n', stderr);
}

Replay::Answers Replay::serve_round(size_t first, size_t last) {
  Answers answers(last - first);
  std::atomic<size_t> next{first};
  std::vector<std::thread> workers;
  for (size_t i = 0; i < std::min(options_.concurrency, last - first); ++i) {
    workers.emplace_back([&] { work(first, last, &next, &answers); });
  }
  for (std::thread& worker : workers) worker.join();
  return answers;
}

void Replay::work(size_t first, size_t last, std::atomic<size_t>* next, Answers* answers) {
  ServerClient client(options_.url, options_.api_key);
  while (!g_interrupted) {
    const size_t index = next->fetch_add(1);
    if (index >= last) return;
    const Result<Answer> answer = client.chat(request_of(prompts_[index], true));
    if (answer) (*answers)[index - first] = answer.value();
    record(prompts_[index], answer);
  }
}

// Nothing else is in flight, so what the server's totals grow by is the round's own and is taken
// out of every later figure. As many at a time as requests with a draft: the same load.
void Replay::baseline_round(size_t first, const Answers& served) {
  const Result<std::map<std::string, double>> before = metrics_client_.metrics();
  const size_t count = std::min(options_.concurrency, served.size());
  const size_t skipped = served.size() - count;
  std::vector<std::thread> workers;
  Answers plain(count);
  for (size_t i = 0; i < count; ++i) {
    workers.emplace_back([&, i] {
      ServerClient client(options_.url, options_.api_key);
      const Prompt& prompt = prompts_[first + skipped + i];
      const Result<Answer> answer = client.chat(request_of(prompt, false));
      if (answer) plain[i] = answer.value();
      const std::lock_guard lock(mutex_);
      if (!answer) fail(prompt, answer.status());
    });
  }
  for (std::thread& worker : workers) worker.join();
  if (const auto after = metrics_client_.metrics(); before && after) {
    baseline_tokens_ += at(*after, kGenerated) - at(*before, kGenerated);
    baseline_steps_ += at(*after, kSteps) - at(*before, kSteps);
  }
  for (size_t i = 0; i < count; ++i) {
    const std::optional<Answer>& with = served[skipped + i];
    if (!plain[i] || !with) continue;
    if (plain[i]->draft_tokens > 0) {  // this server does not know the header
      baseline_works_ = false;
      LOG_WARN("cli", "the server drafts although asked not to: no baseline");
      return;
    }
    report_.pairs.push_back({.id = prompts_[first + skipped + i].id,
                             .after_requests = report_.samples.size(),
                             .tokens = plain[i]->tokens,
                             .decode_ms = plain[i]->decode_ms,
                             .speculated_tokens = with->tokens,
                             .speculated_ms = with->decode_ms,
                             .same_text = plain[i]->text == with->text,
                             .drafted = with->draft_tokens > 0});
  }
}

ChatRequest Replay::request_of(const Prompt& prompt, bool speculate) const {
  return {.messages = prompt.messages,
          .domain = prompt.domain,
          .tokens_max = options_.tokens_max,
          .temperature = options_.temperature,
          .seed = static_cast<uint32_t>(options_.traffic.seed),
          .speculate = speculate};
}

Totals Replay::totals_after(const Answer& answer) {
  if (report_.accept_source == "metrics") {
    const auto metrics = metrics_client_.metrics();
    if (!metrics) return last_;  // a scrape that fails costs one point of the curve
    Totals totals = totals_of(*metrics);
    totals.generated_tokens -= baseline_tokens_;
    totals.target_steps -= baseline_steps_;
    return totals;
  }
  Totals totals = last_;
  totals.generated_tokens += answer.tokens;
  totals.target_steps += answer.tokens - answer.accepted_tokens;
  return totals;
}

void Replay::record(const Prompt& prompt, const Result<Answer>& answer) {
  const std::lock_guard lock(mutex_);
  if (!answer) {
    fail(prompt, answer.status());
  } else {
    last_ = totals_after(answer.value());
    const int64_t before = report_.samples.empty() ? 0 : report_.samples.back().served_tokens;
    report_.samples.push_back(
        {.id = prompt.id,
         .domain = prompt.domain,
         .tokens = answer.value().tokens,
         .decode_ms = answer.value().decode_ms,
         .wall_s = std::chrono::duration<double>(Clock::now() - began_).count(),
         .served_tokens = before + answer.value().tokens,
         .totals = last_});
  }
  show(prompt);
}

void Replay::fail(const Prompt& prompt, const Status& status) {
  ++report_.failed;
  if (report_.failures.size() < kFailuresKept) {
    report_.failures.push_back(prompt.id + ": " + status.message());
  }
}

void Replay::show(const Prompt& prompt) {
  const size_t served = report_.samples.size();
  const size_t done = served + report_.failed;
  const bool due = done % kLogEveryRequests == 0 || done == prompts_.size();
  if (!on_terminal_ && !due) return;
  const size_t first = served - std::min(served, kWindowRequests / 2);
  std::string bar;
  for (int i = 0; i < kBarCells; ++i) {
    bar += static_cast<size_t>(i) * prompts_.size() < done * kBarCells ? "━" : "·";
  }
  std::string speed = printed("%.0f tok/s", tokens_per_s(report_, first, served));
  if (const Baseline baseline = baseline_of(report_); baseline.pairs > 0) {
    speed += printed(" (%.0f without)", baseline.tokens_per_s);
  }
  const std::string line =
      printed("%s %zu/%zu  failed %zu  %s  accept %.2f  draft v%lld  swaps %lld  %s", bar.c_str(),
              done, prompts_.size(), report_.failed, speed.c_str(),
              accept_len(report_, first, served), static_cast<long long>(last_.draft_version),
              static_cast<long long>(last_.swaps - report_.start.swaps), prompt.domain.c_str());
  std::fprintf(stderr, on_terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
}

Report Replay::take_report() {
  report_.wall_s = std::chrono::duration<double>(Clock::now() - began_).count();
  if (const auto metrics = metrics_client_.metrics(); metrics) {
    for (const auto& [name, value] : metrics.value()) {
      if (name.rfind("aurora:", 0) == 0) report_.metrics[name] = value;
    }
  }
  return std::move(report_);
}

Status write_file(const std::string& path, const std::string& text) {
  constexpr mode_t kReadableByAll = 0644;
  return path.empty() ? Status::ok() : write_file_atomically(path, text, kReadableByAll);
}

Status write_reports(const ReplayOptions& options, const Report& report) {
  if (Status s = write_file(options.json_path, report_json(report)); !s) return s;
  if (Status s = write_file(options.html_path, report_html(report)); !s) return s;
  return write_file(options.svg_path, report_svg(report));
}

int refuse(const Status& status, int code) {
  std::fprintf(stderr, "aurora replay: %s\n", status.message().c_str());
  return code;
}

}  // namespace

int replay_main(const std::vector<std::string>& args) {
  const Result<ReplayOptions> options = parse_replay_options(args);
  if (!options) return refuse(options.status(), 2);
  if (options->help) return print_help(replay_command);
  Result<std::vector<Prompt>> prompts =
      read_traffic(options.value().files, options.value().traffic);
  if (!prompts) return refuse(prompts.status(), 1);

  Replay replay(options.value(), std::move(*prompts));
  if (Status status = replay.start(); !status) return refuse(status, 1);
  // The first SIGINT ends the traffic and still writes the report; the second ends the program.
  g_interrupted = false;
  struct sigaction interrupt = {};
  interrupt.sa_handler = [](int) { g_interrupted = true; };
  interrupt.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &interrupt, nullptr);
  replay.run();
  const Report report = replay.take_report();
  std::fputs(report_summary(report).c_str(), stdout);
  if (Status status = write_reports(options.value(), report); !status) return refuse(status, 1);
  return report.failed == 0 ? 0 : 1;
}

}  // namespace aurora
