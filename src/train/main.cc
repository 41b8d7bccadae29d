// aurora-train: joins the parts. Exit code 3: another trainer rank is lost (rank_group.h); 2: bad
// flags or environment; 1: cannot start or had to stop; 0: asked to leave, or done.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/files.h"
#include "base/fingerprint.h"
#include "base/log.h"
#include "nats/nats_url.h"
#include "registry/draft_courier.h"
#include "train/prequential.h"
#include "train/rank_group.h"
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

Status serve(TrainOptions options, RankGroup* ranks) {
  auto target = TargetWeights::open(options.model);
  if (!target) return target.status();
  auto fingerprint = file_fingerprint(options.model);
  if (!fingerprint) return fingerprint.status();
  options.loop.target = *fingerprint;
  if (Status s = same_on_all(options, ranks); !s) return s;
  if (Status s = make_dirs(options.state); !s) return s;
  auto buffer = open_trace_buffer(options.buffer, {.dir = options.state + "/traces",
                                                   .role = TraceBufferOptions::Role::kReader});
  if (!buffer) return buffer.status();
  auto registry = Registry::open(options.state + "/drafts");
  if (!registry) return registry.status();
  const auto courier = start_courier(options, *registry, ranks);
  if (!courier) return courier.status();
  auto draft = start_draft(options, **target);
  if (!draft) return draft.status();
  const RowsOfTarget rows(**target);
  auto learner = make_learner(*draft, rows, options.learn, ranks);
  if (!learner) return learner.status();

  options.loop.shape = draft->shape;
  *draft = {};  // the learner has a copy
  options.loop.checkpoint_path = options.state + "/trainer.ckpt";
  if (!ranks || ranks->rank() == 0) options.loop.status_path = options.state + "/trainer.json";
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
                            ranks};
  TrainLoop loop(options.loop, seams);
  if (Status s = resume_when_reachable(loop, ranks); !s) return s;
  return loop.run([] { return g_stop != 0; });
}

int fail(const Status& status, int exit_code) {
  std::fprintf(stderr, "aurora-train: %s\n", status.message().c_str());
  return exit_code;
}

int join_and_serve(const TrainOptions& options) {
  const auto place = rank_from_environment();
  if (!place) return fail(place.status(), 2);
  const auto ranks = join_ranks(*place, options.rank_timeout_s);
  if (!ranks)
    return fail(ranks.status(), ranks.status().code() == StatusCode::kInvalid ? 2 : kRankLostExit);
  const Status status = serve(options, ranks->get());
  // No destructors: a process group may wait for the rank that is lost.
  if (*ranks && (*ranks)->lost())
    _exit(fail(status, status.code() == StatusCode::kInvalid ? 2 : kRankLostExit));
  return status ? 0 : fail(status, 1);
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
  if (argc > 1 && std::string(argv[1]) == "prequential")
    return run_prequential({argv + 2, argv + argc});
  auto options = parse_train_options({argv + 1, argv + argc});
  if (!options) return fail(options.status(), 2);
  if (options->help) {
    std::fputs(train_help().c_str(), stdout);
    return 0;
  }
  for (int signal_number : {SIGTERM, SIGINT}) std::signal(signal_number, [](int) { g_stop = 1; });
  if (setpriority(PRIO_PROCESS, 0, options->nice) != 0)
    LOG_WARN("train", "cannot set nice %d", options->nice);
  return join_and_serve(*options);
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) { return aurora::run(argc, argv); }
