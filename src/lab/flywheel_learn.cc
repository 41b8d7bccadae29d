// The first phase of `aurora bench flywheel`: what a user of the learning server sees.
#include <algorithm>
#include <filesystem>

#include "base/cpu_count.h"
#include "base/files.h"
#include "lab/flywheel_bench.h"
#include "lab/process_info.h"
#include "lab/prompt_stream.h"
#include "replay/text.h"

namespace aurora {
namespace {

constexpr int64_t kWindowsLeast = 8;

struct Counters {  // of the learning server; what turns without drafts added is taken out
  Totals totals;
  int64_t rollbacks = 0;
};

class Learning {
 public:
  Learning(FlywheelBench& bench, ServerChild& server, PromptStream& stream)
      : bench_(bench), server_(server), stream_(stream), client_(server.url()) {}

  Status run();

 private:
  Status read(Counters& counters);
  Status serve(std::span<const Prompt> prompts);
  Status note(std::span<const Prompt> prompts, const Turn& with);
  void note_pair(std::span<const Prompt> prompts, const Turn& with, const Turn& off);
  Status ask_off(std::span<const Prompt> prompts, Turn& turn);
  Status freeze();
  void compare_with_frozen(std::span<const Prompt> prompts, const Turn& served);
  bool window_is_whole() const;
  Status close_window();
  void show();

  FlywheelBench& bench_;
  ServerChild& server_;
  PromptStream& stream_;
  ServerClient client_;
  std::unique_ptr<ServerChild> frozen_;
  bool freeze_tried_ = false;
  LearnWindow window_;
  Counters at_begin_;                         // of the window
  double off_generated_ = 0, off_steps_ = 0;  // of all turns without drafts
  int64_t served_ = 0, window_tokens_ = 0, window_begin_us_ = 0;
  double trainer_s_at_begin_ = 0;
  pid_t trainer_ = 0;
  size_t turn_ = 0;
};

Status Learning::read(Counters& counters) {
  const auto metrics = client_.metrics();
  if (!metrics) return metrics.status();
  const auto value = [&](const char* name) {
    const auto found = metrics.value().find(std::string("aurora:") + name);
    return found == metrics.value().end() ? 0.0 : found->second;
  };
  counters.totals = {.generated_tokens = value("generated_tokens_total") - off_generated_,
                     .target_steps = value("target_steps_total") - off_steps_,
                     .draft_version = static_cast<int64_t>(value("draft_version")),
                     .swaps = static_cast<int64_t>(value("swaps_total"))};
  counters.rollbacks = static_cast<int64_t>(value("rollbacks_total"));
  return Status::ok();
}

Status Learning::run() {
  if (Status s = read(at_begin_); !s) return s;
  bench_.run.curve.start = at_begin_.totals;
  window_begin_us_ = steady_us();
  bench_.progress.begin("learning", static_cast<double>(bench_.options.learn_tokens));
  const auto at_once = static_cast<size_t>(bench_.options.slots.front());
  while (served_ < bench_.options.learn_tokens && !bench_.stop) {
    const auto prompts = stream_.next(at_once, served_);
    if (prompts.empty()) {
      bench_.run.notes.push_back(printed("the prompts ended after %lld tokens of learning",
                                         static_cast<long long>(served_)));
      break;
    }
    if (Status s = serve(prompts); !s) return s;
    if (window_is_whole() || served_ >= bench_.options.learn_tokens)
      if (Status s = close_window(); !s) return s;
    show();
  }
  bench_.progress.end();
  if (window_.requests == 0) return Status::ok();
  return close_window();
}

// One turn of the stream, with whatever it is compared with right before or behind it. The order
// alternates: what a machine does from one minute to the next falls on both.
Status Learning::serve(std::span<const Prompt> prompts) {
  if (stream_.part() > 0 && bench_.options.static_tokens > 0 && !freeze_tried_)
    if (Status s = freeze(); !s) return s;
  const size_t every = bench_.options.pair_every;
  const size_t number = turn_++;
  const bool paired = every > 0 && number % every == every - 1;
  const bool off_first = paired && number / every % 2 == 1;
  Turn off;
  if (off_first)
    if (Status s = ask_off(prompts, off); !s) return s;
  AskOptions how = bench_.asking(server_);
  how.cache_prompt = !paired;  // whoever comes second has no less to do
  const Turn with = bench_.ask_counted(prompts, how);
  if (Status s = note(prompts, with); !s) return s;
  if (paired && !off_first)
    if (Status s = ask_off(prompts, off); !s) return s;
  if (paired && with.whole() && off.whole()) note_pair(prompts, with, off);
  if (frozen_) compare_with_frozen(prompts, with);
  return bench_.go_on();
}

Status Learning::note(std::span<const Prompt> prompts, const Turn& with) {
  Counters now;
  if (Status s = read(now); !s) return s;
  window_.requests += prompts.size();
  window_.speed.add(with.rate());
  const double share_ms = with.rate().seconds * 1000 / static_cast<double>(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!with.answers[i]) continue;
    const Answer& answer = with.answers[i].value();
    served_ += answer.tokens;
    window_tokens_ += answer.tokens;
    window_.latency.add(answer);
    bench_.run.curve.samples.push_back({.id = prompts[i].id,
                                        .domain = stream_.part_name(),
                                        .tokens = answer.tokens,
                                        .decode_ms = share_ms,
                                        .served_tokens = served_,
                                        .totals = now.totals});
  }
  return Status::ok();
}

void Learning::note_pair(std::span<const Prompt> prompts, const Turn& with, const Turn& off) {
  window_.pairs.add(with.rate(), off.rate());
  window_.pairs.texts += prompts.size();
  window_.pairs.same_texts += same_texts(with, off);
  // The plot's line without a draft: the turn as a whole.
  bench_.run.curve.pairs.push_back({.id = prompts.front().id,
                                    .after_requests = bench_.run.curve.samples.size(),
                                    .tokens = static_cast<int>(off.rate().tokens),
                                    .decode_ms = off.rate().seconds * 1000,
                                    .speculated_tokens = static_cast<int>(with.rate().tokens),
                                    .speculated_ms = with.rate().seconds * 1000});
}

// Nothing else is in flight: what the counters grow by is this turn's.
Status Learning::ask_off(std::span<const Prompt> prompts, Turn& turn) {
  Counters before, after;
  if (Status s = read(before); !s) return s;
  AskOptions how = bench_.asking(server_);
  how.speculate = how.cache_prompt = false;
  turn = bench_.ask_counted(prompts, how);
  if (Status s = read(after); !s) return s;
  off_generated_ += after.totals.generated_tokens - before.totals.generated_tokens;
  off_steps_ += after.totals.target_steps - before.totals.target_steps;
  return Status::ok();
}

// The draft that has learnt the first domain alone, in a server of its own.
Status Learning::freeze() {
  freeze_tried_ = true;
  namespace fs = std::filesystem;
  const std::string state = bench_.state_of("frozen");
  std::error_code error;
  if (Status s = make_dirs(state); !s) return s;
  fs::copy(bench_.state_of("learning") + "/drafts", state + "/drafts", fs::copy_options::recursive,
           error);
  Counters now;
  if (Status s = read(now); !s) return s;
  if (error || now.totals.draft_version == 0) {
    bench_.run.notes.push_back(
        "no draft was in service at the end of the first domain: give more "
        "--static-tokens");
    return Status::ok();
  }
  auto server = bench_.start_ours("frozen", {"--train", "off", "--state", state});
  if (!server) return server.status();
  frozen_ = std::move(*server);
  return Status::ok();
}

// The trainer stands still meanwhile: the frozen server would have none beside it.
void Learning::compare_with_frozen(std::span<const Prompt> prompts, const Turn& served) {
  server_.let_trainer_run(false);
  AskOptions how = bench_.asking(*frozen_);
  const Turn frozen = bench_.ask_counted(prompts, how);
  server_.let_trainer_run(true);
  if (!served.whole() || !frozen.whole()) return;
  window_.frozen.add(served.rate(), frozen.rate());
  window_.frozen.texts += prompts.size();
  window_.frozen.same_texts += same_texts(served, frozen);
}

bool Learning::window_is_whole() const {
  return window_.requests >= kWindowRequests ||
         window_tokens_ * kWindowsLeast >= bench_.options.learn_tokens;
}

Status Learning::close_window() {
  Counters now;
  if (Status s = read(now); !s) return s;
  const pid_t trainer = server_.trainer();
  const double trainer_s = trainer > 0 ? cpu_seconds(trainer) : 0;
  const double wall_s = static_cast<double>(steady_us() - window_begin_us_) / 1e6;
  const double before_s = trainer == trainer_ ? trainer_s_at_begin_ : 0;  // a new one began at 0
  window_.trainer_share = (trainer_s - before_s) / (wall_s * cores_allowed());
  window_.domain = stream_.part_name();
  window_.served_tokens = served_;
  window_.generated = now.totals.generated_tokens - at_begin_.totals.generated_tokens;
  window_.steps = now.totals.target_steps - at_begin_.totals.target_steps;
  window_.draft_version = now.totals.draft_version;
  window_.swaps = now.totals.swaps - at_begin_.totals.swaps;
  window_.rollbacks = now.rollbacks - at_begin_.rollbacks;
  bench_.run.swaps += window_.swaps;
  bench_.run.rollbacks += window_.rollbacks;
  bench_.run.windows.push_back(std::move(window_));
  window_ = {};
  at_begin_ = now;
  window_tokens_ = 0;
  window_begin_us_ = steady_us();
  trainer_ = trainer;
  trainer_s_at_begin_ = trainer_s;
  return Status::ok();
}

void Learning::show() {
  std::string figures = printed("%s tokens", grouped(served_).c_str());
  if (!bench_.run.windows.empty()) {
    const LearnWindow& last = bench_.run.windows.back();
    figures += printed("  %.1f tokens/s  accept %.2f  draft v%lld", last.speed.per_s(),
                       last.accept_len(), static_cast<long long>(last.draft_version));
    if (last.pairs.pairs() > 0) figures += printed("  %.2f of no draft", last.pairs.ratio());
  }
  if (bench_.run.failed > 0) figures += printed("  failed %zu", bench_.run.failed);
  bench_.progress.show(static_cast<double>(served_), figures);
}

}  // namespace

Status run_learning(FlywheelBench& bench, ServerChild& learning, PromptStream& stream) {
  return Learning(bench, learning, stream).run();
}

}  // namespace aurora
