// `aurora serve`: llama-server with the speculator behind its seam and the trainer beside it.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>

#include "aurora_tap_architectures.h"
#include "base/cpu_count.h"
#include "base/log.h"
#include "base/self_path.h"
#include "cli/commands.h"
#include "cli/companion.h"
#include "cli/deterministic.h"
#include "cli/rollout_options.h"
#include "cli/serve_options.h"
#include "cli/server_flags.h"
#include "cli/state_dir.h"
#include "draft/gguf_file.h"
#include "draft/model_files.h"
#include "kernels/kernels.h"
#include "live/live_page.h"
#include "nats/nats_url.h"
#include "registry/draft_courier.h"
#include "registry/target_fingerprint.h"
#include "speculator/speculator.h"
#include "train/target_weights.h"

int llama_server(int argc, char** argv);

namespace aurora {
namespace {

// The file's header, or why this file cannot be a target.
Result<std::unique_ptr<GgufFile>> open_target(const std::string& path) {
  if (!std::filesystem::is_regular_file(path)) {
    return Status::not_found("there is no model file " + path + "; give -m FILE.gguf");
  }
  auto file = GgufFile::open(path);
  if (!file) return Status::invalid(path + " is not a GGUF model; give the target's .gguf file");
  if (!(*file)->text("general.architecture")) {
    return Status::invalid(path + " names no architecture; give the target's .gguf file");
  }
  return file;
}

bool can_be_tapped(const std::string& architecture) {
  return std::any_of(std::begin(kTapArchitectures), std::end(kTapArchitectures),
                     [&](const char* known) { return architecture == known; });
}

// llama.cpp takes a split model by its first part, so whichever one was named becomes that one.
Status name_first_part(ServeOptions& options) {
  if (!std::filesystem::is_regular_file(options.model)) return Status::ok();  // said by open_target
  const auto first = first_model_file(options.model);
  if (!first && first.status().code() == StatusCode::kCorrupt) return Status::ok();  // there too
  if (!first) return first.status();
  if (*first == options.model) return Status::ok();
  auto& args = options.server_args;
  if (std::find(args.begin(), args.end(), options.model) == args.end())  // by LLAMA_ARG_MODEL
    args.insert(args.end(), {"-m", *first});
  std::replace(args.begin(), args.end(), options.model, *first);
  options.model = *first;
  return Status::ok();
}

Status check_target(const ServeOptions& options) {
  const auto file = open_target(options.model);
  if (!file) return file.status();
  const std::string architecture = *(*file)->text("general.architecture");
  if (can_be_tapped(architecture)) {
    if (!options.deterministic) return Status::ok();
    if (Status status = check_deterministic_flags(options); !status) return status;
    return check_deterministic_target(options.model, architecture);
  }
  return Status::invalid(
      "architecture '" + architecture +
      "' has no layer outputs in llama.cpp that a draft could read; serve it with llama-server");
}

Status check_rollouts(const ServeOptions& options) {
  if (options.rollouts == 0) return Status::ok();
  if (!options.capture) return Status::invalid("--rollouts is learnt from: it needs --capture on");
  if (!options.buffer.empty())
    return Status::invalid(
        "--rollouts and --buffer: every server would answer all prompts again; run `aurora "
        "rollouts --buffer URL --url SERVER` for one of them instead");
  const auto& args = options.server_args;
  for (const char* flag : {"--cache-ram", "-cram"})
    if (server_value(args, flag, "LLAMA_ARG_CACHE_RAM", "") == "0")
      return Status::invalid(
          "--rollouts keep conversations in the server's prompt cache; leave out --cache-ram 0");
  return server_url(args).status();
}

void note_old_state(const ServeOptions& options) {
  const auto old = old_target_fingerprint(options.model);
  const std::string folder = old ? default_state(*old) : "";
  if (folder.empty() || !std::filesystem::exists(folder) || std::filesystem::exists(options.state))
    return;
  LOG_WARN("serve",
           "%s is of an aurora that named this target otherwise: it is not used, remove it",
           folder.c_str());
}

Status prepare(ServeOptions& options, std::string& target) {
  if (options.model.empty())
    return Status::invalid("no model given; run aurora serve -m TARGET.gguf");
  if (Status status = check_buffer_url(options.buffer); !status) return status;
  if (Status status = name_first_part(options); !status) return status;
  if (Status status = check_target(options); !status) return status;
  auto fingerprint = target_fingerprint(options.model);
  if (!fingerprint) return fingerprint.status();
  target = *fingerprint;
  if (Status status = check_rollouts(options); !status) return status;
  if (options.state.empty()) {
    options.state = default_state(target);
    note_old_state(options);
  }
  return make_state(options);
}

// "" where there is no state.
std::string in_state(const ServeOptions& options, const char* name) {
  return options.state.empty() ? "" : options.state + "/" + name;
}

SpeculatorOptions speculator_options(const ServeOptions& options, const std::string& target,
                                     std::optional<Companion>& trainer) {
  SpeculatorOptions speculator;
  speculator.train = [&trainer](bool on) {
    if (trainer) trainer->hold(!on);
    return trainer.has_value();
  };
  speculator.target = target;
  speculator.target_path = options.model;
  speculator.traces_dir = in_state(options, "traces");
  speculator.buffer_url = options.buffer;
  speculator.registry_dir = in_state(options, "drafts");
  speculator.trainer_runs = [&trainer] { return trainer && trainer->runs(); };
  speculator.trainer_status = in_state(options, "trainer.status");
  speculator.capture = options.capture;
  speculator.capture_rate = options.capture_rate;
  using Arms = ServeOptions::Arms;
  speculator.gate = options.gate;
  speculator.ngrams = options.arms == Arms::kAll || options.arms == Arms::kNgram;
  speculator.chain = options.arms == Arms::kAll || options.arms == Arms::kChain;
  speculator.buffer_bytes_max = static_cast<uint64_t>(options.buffer_mib) << 20;
  speculator.expires_in_s = options.expires_in_s;
  speculator.draft_prob_min = options.draft_prob_min;
  speculator.depth_seed = options.depth_seed;
  if (options.capture) speculator.state_dir = options.state;
  speculator.train_share = options.train_share;
  speculator.cores = cores_allowed();
  return speculator;
}

std::vector<std::string> trainer_args(const ServeOptions& options) {
  std::vector<std::string> args = {"-m",
                                   options.model,
                                   "--state",
                                   options.state,
                                   "--draft-depth",
                                   std::to_string(options.replay_depth()),
                                   "--gate",
                                   options.gate ? "replay" : "off"};
  if (!options.buffer.empty()) args.insert(args.end(), {"--buffer", options.buffer});
  args.insert(args.end(), options.trainer_args.begin(), options.trainer_args.end());
  return args;
}

// What the trainer would say of this target each time that it starts is said once.
bool can_be_learnt(const ServeOptions& options) {
  const auto weights = TargetWeights::open(options.model);
  if (weights || weights.status().code() != StatusCode::kInvalid) return true;
  LOG_WARN("serve", "%s. No draft is learnt for it: drafts come from repeated text alone",
           weights.status().message().c_str());
  return false;
}

ChildProgram rollouts_program(const ServeOptions& options) {
  ChildProgram program;
  program.path = sibling_program("aurora");
  program.args = {"rollouts",
                  "-m",
                  options.model,
                  "--state",
                  options.state,
                  "--url",
                  *server_url(options.server_args),
                  "--each",
                  std::to_string(options.rollouts)};
  // Not on its command line, which every user of the machine may read.
  const std::string keys = server_value(options.server_args, "--api-key", "LLAMA_API_KEY", "");
  if (!keys.empty()) program.environment = {"AURORA_API_KEY=" + keys.substr(0, keys.find(','))};
  return program;
}

// Drafts come over the same brokers as the traces go. nullptr: there are none.
Result<std::unique_ptr<DraftCourier>> start_courier(const ServeOptions& options,
                                                    const std::string& target,
                                                    Speculator& speculator) {
  if (options.buffer.empty()) return std::unique_ptr<DraftCourier>();
  const auto url = parse_nats_url(options.buffer);
  if (!url) return url.status();
  auto registry = Registry::open(options.state + "/drafts");
  if (!registry) return registry.status();
  DraftCourierOptions courier;
  courier.target = target;
  courier.figures = [&speculator] { return speculator.metrics_text(); };
  return start_draft_courier(*url, std::move(*registry), courier);
}

bool has_threads(const std::vector<std::string>& args) {
  return std::getenv("LLAMA_ARG_THREADS") != nullptr ||
         std::any_of(args.begin(), args.end(), [](const std::string& arg) {
           return arg == "-t" || arg == "--threads" || arg.starts_with("--threads=");
         });
}

int run_server(const ServeOptions& options) {
  std::vector<std::string> args = {"aurora serve"};
  args.insert(args.end(), options.server_args.begin(), options.server_args.end());
  // llama-server takes the cores of the machine, whatever this process may use of them.
  if (!has_threads(options.server_args)) {
    for (const std::string& arg : {std::string("-t"), std::to_string(cores_allowed())})
      args.push_back(arg);
  }
  // A config file of llama.cpp may say what check_server_flag() refuses: the last word is ours. It
  // warns of a switch that comes twice.
  for (const char* on : {"--no-context-shift", "--metrics"}) {
    if (std::find(args.begin(), args.end(), on) == args.end()) args.push_back(on);
  }
  for (const char* fixed :
       {"--cache-reuse", "0", "--spec-type", "draft-eagle3", "--spec-draft-n-max"})
    args.push_back(fixed);
  args.push_back(std::to_string(options.draft_depth_max()));
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  return llama_server(static_cast<int>(args.size()), argv.data());
}

// Whoever waits in a write to stderr, which nobody reads, holds its lock, and exit() would wait for
// that one.
int leave(int code) {
  flush_log();
  if (::ftrylockfile(stderr) != 0) ::_exit(code);
  ::funlockfile(stderr);
  return code;
}

}  // namespace

int serve_main(const Words& args) {
  auto parsed = parse_serve_options(args);
  if (!parsed) {
    std::fprintf(stderr, "aurora serve: %s\n", parsed.status().message().c_str());
    return 2;
  }
  ServeOptions& options = *parsed;
  if (options.help) std::fputs(serve_help().c_str(), stdout);
  if (options.help || options.prints) return run_server(options);
  for (const std::string& sentence : idle_server_flags(options.server_args))
    std::fprintf(stderr, "aurora serve: %s\n", sentence.c_str());
  std::string target;
  if (Status status = prepare(options, target); !status) {
    std::fprintf(stderr, "aurora serve: %s\n", status.message().c_str());
    return 2;
  }
  if (options.kernels) kernels::install();
  if (Status status = options.deterministic ? check_deterministic_cpu() : Status::ok(); !status) {
    std::fprintf(stderr, "aurora serve: %s\n", status.message().c_str());
    return 2;
  }
  std::optional<Companion> trainer, rollouts;
  Speculator speculator(speculator_options(options, target, trainer));
  auto courier = start_courier(options, target, speculator);
  if (!courier) {
    std::fprintf(stderr, "aurora serve: %s\n", courier.status().message().c_str());
    return 2;
  }
  seam = &speculator;
  live_page = kLivePage;
  if (options.trains() && can_be_learnt(options))
    trainer.emplace(CompanionOptions{"trainer",
                                     [&speculator](const ChildEnd& end) {
                                       speculator.trainer_ended(
                                           end.code, to_string(end) +
                                                         (end.said.empty() ? "" : ": " + end.said));
                                     }},
                    ChildProgram{sibling_program("aurora-train"), trainer_args(options)});
  if (options.rollouts > 0)
    rollouts.emplace(CompanionOptions{"rollouts"}, rollouts_program(options));
  const int code = run_server(options);
  rollouts.reset();
  trainer.reset();
  courier->reset();
  seam = nullptr;
  return leave(code);
}

}  // namespace aurora
