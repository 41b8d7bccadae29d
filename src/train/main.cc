// aurora-train: joins the parts. Exit codes above 1 are those of base/exit_code.h; 1: cannot start
// or had to stop; 0: asked to leave, or done.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <system_error>

#include "base/background.h"
#include "base/exit_code.h"
#include "base/file_lock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "nats/nats_url.h"
#include "registry/draft_courier.h"
#include "registry/target_fingerprint.h"
#include "train/core_use.h"
#include "train/prequential.h"
#include "train/rank_group.h"
#include "train/torch_threads.h"
#include "train/train_options.h"
#include "train/trainer_parts.h"

namespace aurora {
namespace {

constexpr int64_t kRetryMsMin = 500, kRetryMsMax = 10'000;

volatile std::sig_atomic_t g_stop = 0;

Status same_on_all(const TrainOptions& options, RankGroup* ranks) {
  if (!ranks) return Status::ok();
  Status s = ranks->require_same(shared_checksum(options), "their flags or their target model");
  if (s.code() != StatusCode::kInternal) return s;
  return Status::invalid(s.message() + ": start all of them with the same ones");
}

// Drafts go over the same brokers as the traces come, rank 0's, which publishes them. nullptr:
// none.
Result<std::unique_ptr<DraftCourier>> start_courier(const TrainOptions& options,
                                                    const Registry& registry,
                                                    const RankGroup* ranks) {
  if (options.buffer.empty() || (ranks && ranks->rank() > 0))
    return std::unique_ptr<DraftCourier>();
  const auto url = parse_nats_url(options.buffer);
  if (!url) return url.status();
  DraftCourierOptions courier;
  courier.role = DraftCourierOptions::Role::kTrainer;
  courier.target = options.loop.target;
  courier.figures = [status = options.state + "/trainer.status"] {
    const auto text = read_file(status, 64u << 10);
    return text ? *text : std::string();
  };
  return start_draft_courier(*url, registry, courier);
}

// The records of a checkpoint's window come from the buffer: with brokers away the trainer waits
// for them, as long as it takes, instead of starting without what it had. Ranks resume together:
// one that cannot leaves, and their launcher starts all of them again.
Status resume_when_reachable(TrainLoop& loop, const RankGroup* ranks) {
  if (ranks) return loop.resume();
  for (int64_t wait_ms = kRetryMsMin; g_stop == 0; wait_ms = std::min(2 * wait_ms, kRetryMsMax)) {
    const Status status = loop.resume();
    if (status.code() != StatusCode::kUnavailable) return status;
    LOG_WARN("train", "the trace buffer does not answer, trying again: %s",
             status.to_string().c_str());
    usleep(static_cast<useconds_t>(wait_ms * 1000));
  }
  return Status::ok();
}

constexpr const char* kNoMemory = "memory ran out; --train-memory-mib N gives more";

Status run_loop(TrainLoop& loop, const RankGroup* ranks) {
  if (Status s = resume_when_reachable(loop, ranks); !s) return s;
  return loop.run([] { return g_stop != 0; });
}

// Before anything else: a target that is refused is refused each time.
Result<std::unique_ptr<TargetWeights>> open_target(const std::string& path) {
  try {
    return TargetWeights::open(path);
  } catch (const std::exception& error) {  // bad_alloc on a hostile count
    return Status::corrupt(path + " cannot be read: " + error.what());
  }
}

Status serve(TrainOptions options, const TargetWeights& target, RankGroup* ranks) {
  options.model = target.path();
  auto fingerprint = target_fingerprint(options.model);
  if (!fingerprint) return fingerprint.status();
  options.loop.target = *fingerprint;
  if (Status s = same_on_all(options, ranks); !s) return s;
  if (Status s = make_dirs(options.state); !s) return s;
  start_torch_threads(options.learn.threads);
  // Getting ready is work: beside a busy server it would take minutes without a core.
  CoreUse cores(options.state, options.learn.threads, set_torch_threads);
  cores.next_step(true);
  auto buffer = open_trace_buffer(options.buffer, {.dir = options.state + "/traces",
                                                   .role = TraceBufferOptions::Role::kReader});
  if (!buffer) return buffer.status();
  auto registry = Registry::open(options.state + "/drafts");
  if (!registry) return registry.status();
  const auto courier = start_courier(options, *registry, ranks);
  if (!courier) return courier.status();
  auto draft = start_draft(options, target);
  if (!draft) return draft.status();
  if (Status s = limit_memory(memory_bytes_of(options, *draft)); !s)
    LOG_WARN("train", "%s", s.to_string().c_str());
  const RowsOfTarget rows(target);
  auto learner = make_learner(*draft, rows, options.learn, ranks);
  if (!learner) return learner.status();

  options.loop.shape = draft->shape;
  *draft = {};  // the learner has a copy
  options.loop.checkpoint_path = options.state + "/trainer.ckpt";
  if (!ranks || ranks->rank() == 0) options.loop.status_path = options.state + "/trainer.status";
  if (ranks && ranks->rank() > 0 && !options.loop.audit_path.empty())
    options.loop.audit_path += "." + std::to_string(ranks->rank());
  const TrainSeams seams = {**buffer,
                            *registry,
                            **learner,
                            [&](const std::string& path, const DraftWeights& weights) {
                              return write_draft_file(path, weights, options.model, options.dtype);
                            },
                            [&](const std::string& path) -> Result<std::unique_ptr<Scorer>> {
                              auto weights = read_draft_file(path);
                              if (!weights) return weights.status();
                              return make_scorer(*weights, rows, options.learn);
                            },
                            [](double seconds) { usleep(static_cast<useconds_t>(seconds * 1e6)); },
                            ranks,
                            [&cores](bool work) { cores.next_step(work); }};
  TrainLoop loop(options.loop, seams);
  return run_loop(loop, ranks);
}

// A step that wants more memory than it may have fails on its own. What is left is the rest: the
// checkpoint is behind it, and the next life begins with an empty heap. A thread that does not fit
// is a system_error, LibTorch's exceptions are of what no step guards.
Status serve_or_say(TrainOptions options, const TargetWeights& target, RankGroup* ranks) {
  try {
    return serve(std::move(options), target, ranks);
  } catch (const std::bad_alloc&) {
    return Status::full(kNoMemory);
  } catch (const std::system_error& error) {
    const bool no_room = error.code() == std::errc::resource_unavailable_try_again;
    return no_room ? Status::full(kNoMemory) : Status::internal(error.what());
  } catch (const std::exception& error) {
    return Status::internal(error.what());
  }
}

int fail(const Status& status, int exit_code) {
  // LibTorch's words for it are a place in its source.
  const bool no_memory = status.message().find("can't allocate memory") != std::string::npos;
  flush_log();
  std::fprintf(stderr, "aurora-train: %s\n", no_memory ? kNoMemory : status.message().c_str());
  return exit_code;
}

// One trainer a state folder: two would write each other's checkpoint. Rank 0 stands for its ranks.
Result<FileLock> lock_state(const std::string& state) {
  if (Status s = make_dirs(state); !s) return s;
  if (Status s = check_own_dir(state); !s) return s;
  return FileLock::acquire(state + "/trainer.lock", 0);
}

// Nothing to be said by one that a server keeps: the server says it, once.
int held_elsewhere(const std::string& state, bool kept) {
  if (!kept)
    std::fprintf(stderr,
                 "aurora-train: another trainer works in %s; give this one a --state of its own\n",
                 state.c_str());
  return kHeldElsewhereExit;
}

int join_and_serve(const TrainOptions& options, bool kept) {
  const auto place = rank_from_environment();
  if (!place) return fail(place.status(), kBadSetupExit);
  const auto target = open_target(options.model);
  if (!target)
    return fail(target.status(),
                target.status().code() == StatusCode::kInvalid ? kBadSetupExit : 1);
  std::optional<Result<FileLock>> lock;
  if (place->rank == 0) lock.emplace(lock_state(options.state));
  if (lock && !*lock) {
    const Status& refused = lock->status();
    const bool held = refused.code() == StatusCode::kUnavailable;
    const bool setup = refused.code() == StatusCode::kInvalid;
    return held ? held_elsewhere(options.state, kept) : fail(refused, setup ? kBadSetupExit : 1);
  }
  const auto ranks = join_ranks(*place, options.rank_timeout_s);
  if (!ranks)
    return fail(ranks.status(),
                ranks.status().code() == StatusCode::kInvalid ? kBadSetupExit : kRankLostExit);
  const Status status = serve_or_say(options, **target, ranks->get());
  // No destructors: a process group may wait for the rank that is lost.
  if (*ranks && (*ranks)->lost())
    _exit(fail(status, status.code() == StatusCode::kInvalid ? kBadSetupExit : kRankLostExit));
  return status ? 0 : fail(status, 1);
}

// Threads that wait for each other spin for some microseconds at most: in the idle class the one
// that is waited for may not run at all. A sleep and a wake-up cost more than that, hundreds of
// times a step. OpenBLAS gives up after 2^16 cycles.
void live_beside_others(const TrainOptions& options, char** argv) {
  lower_priority(options.nice);
  offer_to_oom_killer();
  const std::string threads = std::to_string(options.learn.threads);
  restart_with({{"OMP_WAIT_POLICY", "passive"},
                {"GOMP_SPINCOUNT", "2000"},
                {"OPENBLAS_THREAD_TIMEOUT", "16"},
                {"OMP_NUM_THREADS", threads, true},
                {"OPENBLAS_NUM_THREADS", threads, true}},
               argv);
}

int run_prequential(const std::vector<std::string>& args) {
  auto options = parse_prequential_options(args);
  if (!options) {
    std::fprintf(stderr, "aurora-train prequential: %s\n", options.status().message().c_str());
    return 2;
  }
  if (Status s = run_prequential(*options); !s) {
    std::fprintf(stderr, "aurora-train prequential: %s\n", s.message().c_str());
    return 1;
  }
  return 0;
}

int run(int argc, char** argv) {
  const bool kept = follow_parent();
  if (argc > 1 && std::string(argv[1]) == "prequential")
    return run_prequential({argv + 2, argv + argc});
  auto options = parse_train_options({argv + 1, argv + argc});
  if (!options) return fail(options.status(), kBadSetupExit);
  if (options->help) {
    std::fputs(train_help().c_str(), stdout);
    return 0;
  }
  ::umask(077);  // libraries make files of ours
  for (int signal_number : {SIGTERM, SIGINT}) std::signal(signal_number, [](int) { g_stop = 1; });
  if (options->threads == 0) options->learn.threads = threads_of_machine();
  live_beside_others(*options, argv);
  return join_and_serve(*options, kept);
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) { return aurora::run(argc, argv); }
