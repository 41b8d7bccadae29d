#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/cpu_count.h"
#include "base/files.h"
#include "base/self_path.h"
#include "lab/bench.h"
#include "lab/flywheel_bench.h"
#include "lab/process_info.h"
#include "lab/prompt_stream.h"
#include "replay/plot.h"
#include "replay/text.h"

namespace aurora {
namespace {

namespace fs = std::filesystem;

constexpr double kStartSecondsMax = 600;  // a large model from a slow disk
constexpr int kContextOfSlot = 4096;
constexpr size_t kFailuresKept = 5;
constexpr int kInterruptedExit = 130;
constexpr size_t kEarlierBytesMax = 64u << 20;

std::atomic<bool> g_stop{false};

// The first signal ends the run in order and still writes what is known; the second at once.
void watch_signals() {
  g_stop = false;
  struct sigaction handler = {};
  handler.sa_handler = [](int) { g_stop = true; };
  handler.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &handler, nullptr);
}

// Where states and logs lie: removed with all that is in it, unless it is to be kept.
class WorkFolder {
 public:
  Status make(const std::string& keep);
  ~WorkFolder() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  }
  WorkFolder() = default;
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_, temporary_;
};

Status WorkFolder::make(const std::string& keep) {
  std::error_code ignored;
  path_ = keep;
  if (keep.empty()) {
    path_ = (fs::temp_directory_path(ignored) / "aurora-flywheel-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) return Status::io("cannot make the folder " + path_);
    temporary_ = path_;
    return Status::ok();
  }
  if (Status s = make_dirs(keep); !s) return s;
  // A state of before would be learnt from: the run begins with nothing.
  if (!fs::is_empty(keep, ignored)) return Status::invalid("--keep " + keep + " is not empty");
  return Status::ok();
}

std::string file_name(const std::string& path) { return fs::path(path).filename().string(); }

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

void describe(const FlywheelOptions& options, Flywheel& run) {
  std::string prompts, slots;
  for (const std::string& file : options.prompts)
    prompts += (prompts.empty() ? "" : ", ") + file_name(file);
  for (const int count : options.slots)
    slots += (slots.empty() ? "" : ", ") + std::to_string(count);
  run.hostile = options.stream == Stream::kHostile;
  run.sampled = options.temperature > 0;
  run.settings = {{"cpu", cpu_name()},
                  {"cores", std::to_string(cores_allowed())},
                  {"model", file_name(options.model)},
                  {"prompts", prompts},
                  {"stream", to_string(options.stream)},
                  {"learn_tokens", std::to_string(options.learn_tokens)},
                  {"static_tokens", std::to_string(options.static_tokens)},
                  {"pair_every", std::to_string(options.pair_every)},
                  {"warm", std::to_string(options.warm)},
                  {"count", std::to_string(options.count)},
                  {"max_tokens", std::to_string(options.tokens_max)},
                  {"slots", slots},
                  {"temperature", printed("%g", options.temperature)},
                  {"seed", std::to_string(options.seed)},
                  {"trainer", options.trainer_beside ? "beside" : "stopped"},
                  {"server_flags", joined(options.server_flags, " ")}};
}

std::vector<std::string> common_args(const FlywheelOptions& options) {
  const int slots = options.slots_max();
  std::vector<std::string> args = {"-m",  options.model,
                                   "-np", std::to_string(slots),
                                   "-c",  std::to_string(kContextOfSlot * slots)};
  args.insert(args.end(), options.server_flags.begin(), options.server_flags.end());
  return args;
}

Status write_report(const std::string& path, const std::string& text) {
  return path.empty() ? Status::ok() : write_file_atomically(path, text, 0644);
}

// After each phase: a run that is stopped or fails leaves what is known.
Status write_results(const FlywheelBench& bench) {
  const FlywheelOptions& options = bench.options;
  std::string earlier;
  if (!options.merge_path.empty()) {
    auto text = read_file(options.merge_path, kEarlierBytesMax);
    if (!text) return text.status();
    earlier = std::move(*text);
  }
  const auto json = flywheel_json(bench.run, earlier);
  if (!json) return Status::invalid(options.merge_path + ": " + json.status().message());
  if (Status s = write_report(options.json_path, json.value()); !s) return s;
  if (Status s = write_report(options.svg_path, report_svg(bench.run.curve)); !s) return s;
  return write_report(options.html_path, flywheel_html(bench.run));
}

// Which arm drafted what, and the rest, as they stand.
void note_metrics(FlywheelBench& bench, const ServerChild& learning) {
  const auto metrics = ServerClient(learning.url()).metrics();
  if (!metrics) return;
  for (const auto& [name, value] : metrics.value())
    if (name.starts_with("aurora:")) bench.run.curve.metrics[name] = value;
}

Status run_phases(FlywheelBench& bench, PromptStream& stream) {
  std::fprintf(stderr, "starting the learning server\n");
  auto learning = bench.start_ours("learning", {"--state", bench.state_of("learning")});
  if (!learning) return learning.status();
  std::fprintf(stderr, "see it learn: %s/\n", (*learning)->url().c_str());
  if (Status s = run_learning(bench, **learning, stream); !s) return s;
  note_metrics(bench, **learning);
  if (Status s = write_results(bench); !s) return s;
  if (bench.stop || bench.options.count == 0 || bench.run.hostile) return Status::ok();
  Status ended = run_arms(bench, **learning, stream);
  note_metrics(bench, **learning);
  return ended;
}

Status run_all(const FlywheelOptions& options, bool& failed, bool& interrupted) {
  auto stream = PromptStream::open(options);
  if (!stream) return stream.status();
  WorkFolder folder;
  if (Status s = folder.make(options.keep); !s) return s;
  FlywheelBench bench{.options = options, .stop = g_stop, .folder = folder.path()};
  describe(options, bench.run);
  if (Status s = write_results(bench); !s) return s;  // before hours of work: can it be written?
  const int64_t begin_us = steady_us();
  const Status ended = run_phases(bench, *stream);
  bench.run.wall_s = static_cast<double>(steady_us() - begin_us) / 1e6;
  bench.run.interrupted = interrupted = g_stop;
  failed = bench.run.failed > 0;
  if (!ended) bench.run.notes.push_back("ended early: " + ended.message());
  std::fputs(flywheel_table(bench.run).c_str(), stdout);
  if (Status s = write_results(bench); !s) return s;
  return interrupted ? Status::ok() : ended;
}

}  // namespace

Result<std::unique_ptr<ServerChild>> FlywheelBench::start_ours(
    const std::string& name, const std::vector<std::string>& flags) {
  std::vector<std::string> args = {"serve"};
  args.insert(args.end(), flags.begin(), flags.end());
  const auto common = common_args(options);
  args.insert(args.end(), common.begin(), common.end());
  return ServerChild::start({sibling_program("aurora"), args, folder + "/" + name + ".log"},
                            kStartSecondsMax);
}

Result<std::unique_ptr<ServerChild>> FlywheelBench::start_stock(
    const std::string& name, const std::vector<std::string>& flags) {
  std::vector<std::string> args = flags;
  const auto common = common_args(options);
  args.insert(args.end(), common.begin(), common.end());
  return ServerChild::start({options.stock, args, folder + "/" + name + ".log"}, kStartSecondsMax);
}

AskOptions FlywheelBench::asking(const ServerChild& server) const {
  return {.url = server.url(),
          .tokens_max = options.tokens_max,
          .temperature = options.temperature,
          .seed = options.seed};
}

Turn FlywheelBench::ask_counted(std::span<const Prompt> prompts, const AskOptions& how) {
  Turn turn = ask(prompts, how);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (turn.answers[i]) continue;
    if (run.failed++ < kFailuresKept)
      run.failures.push_back(prompts[i].id + ": " + turn.answers[i].status().message());
  }
  return turn;
}

Status FlywheelBench::go_on() const {
  if (run.failed < kFailuresMax) return Status::ok();
  return Status::unavailable(std::to_string(run.failed) + " requests failed");
}

int bench_flywheel_main(const std::vector<std::string>& args) {
  auto options = parse_flywheel_options(args);
  if (!options) return refuse("aurora bench flywheel", options.status());
  if (options->help) return print_help(flywheel_command);
  watch_signals();
  bool failed = false, interrupted = false;
  if (Status s = run_all(*options, failed, interrupted); !s) {
    refuse("aurora bench flywheel", s);
    return s.code() == StatusCode::kInvalid ? 2 : 1;
  }
  return interrupted ? kInterruptedExit : failed ? 1 : 0;
}

}  // namespace aurora
