// aurora-train: joins the parts. Exit code 2: bad flags; 1: cannot start or had to stop; 0: asked
// to leave, or done.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/files.h"
#include "base/fingerprint.h"
#include "base/log.h"
#include "train/draft_start.h"
#include "train/target_weights.h"
#include "train/train_options.h"

namespace aurora {
namespace {

volatile std::sig_atomic_t g_stop = 0;

class RowsOfTarget final : public TargetRows {
 public:
  explicit RowsOfTarget(const TargetWeights& target) : target_(target) {}
  Status token_rows(std::span<const int32_t> ids, float* out) const override {
    return target_.token_rows(ids, out);
  }
  Status head_rows(std::span<const int64_t> ids, float* out) const override {
    return target_.head_rows(ids, out);
  }

 private:
  const TargetWeights& target_;
};

Result<DraftWeights> start_draft(const TrainOptions& options, const TargetWeights& target) {
  if (options.init != "target" && options.init != "random") {
    auto draft = read_draft_file(options.init);
    if (draft && draft->shape.hidden != target.shape().hidden)
      return Status::invalid(options.init + ": a draft of another hidden size than the target's");
    return draft;
  }
  const DraftVocab vocab(target.shape().target_vocab, options.vocab);
  auto draft = target.initial_draft(vocab.best());
  if (draft && options.init == "random") randomise(*draft, options.loop.seed);
  if (draft && options.init == "target") attend_to_own_token(*draft, {}, options.loop.seed);
  return draft;
}

Status serve(TrainOptions options) {
  auto target = TargetWeights::open(options.model);
  if (!target) return target.status();
  auto fingerprint = file_fingerprint(options.model);
  if (!fingerprint) return fingerprint.status();
  if (Status s = make_dirs(options.state); !s) return s;
  auto buffer = open_lmdb_buffer(
      {.dir = options.state + "/traces", .role = TraceBufferOptions::Role::kReader});
  if (!buffer) return buffer.status();
  auto registry = Registry::open(options.state + "/drafts");
  if (!registry) return registry.status();
  auto draft = start_draft(options, **target);
  if (!draft) return draft.status();
  const RowsOfTarget rows(**target);
  auto learner = make_learner(*draft, rows, options.learn);
  if (!learner) return learner.status();

  options.loop.target = *fingerprint;
  options.loop.shape = draft->shape;
  options.loop.checkpoint_path = options.state + "/trainer.ckpt";
  options.loop.status_path = options.state + "/trainer.json";
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
                            [](double seconds) { usleep(static_cast<useconds_t>(seconds * 1e6)); }};
  TrainLoop loop(options.loop, seams);
  if (Status s = loop.resume(); !s) return s;
  return loop.run([] { return g_stop != 0; });
}

int run(int argc, char** argv) {
  auto options = parse_train_options({argv + 1, argv + argc});
  if (!options) {
    std::fprintf(stderr, "aurora-train: %s\n", options.status().message().c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(train_help().c_str(), stdout);
    return 0;
  }
  for (int signal_number : {SIGTERM, SIGINT}) std::signal(signal_number, [](int) { g_stop = 1; });
  if (setpriority(PRIO_PROCESS, 0, options->nice) != 0)
    LOG_WARN("train", "cannot set nice %d", options->nice);
  if (Status s = serve(*options); !s) {
    std::fprintf(stderr, "aurora-train: %s\n", s.message().c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) { return aurora::run(argc, argv); }
