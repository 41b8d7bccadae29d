// The trainer's seam to LibTorch: a draft that can be scored, trained, saved. No LibTorch type
// crosses this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "draft/draft_weights.h"
#include "trace/record.h"

namespace aurora {

class RankGroup;

// Rows of the target that training needs: the frozen token embedding, and head rows for tokens new
// to the draft's vocabulary. Implemented over TargetWeights in main.cc and by toys in tests. out:
// [ids, D].
class TargetRows {
 public:
  virtual ~TargetRows() = default;
  virtual Status token_rows(std::span<const int32_t> ids, float* out) const = 0;
  virtual Status head_rows(std::span<const int64_t> ids, float* out) const = 0;
};

// What the rows of the accepted path are pulled towards: formulas and sources in objective.h.
enum class ObjectiveKind {
  kForwardKl,
  kReverseKl,
  kCrossEntropy,
  kAcceptLen,
  kAcceptLenGreedy,
  kOverlapNla,
  kOverlapBlend
};

// The rate of a draft of that width, by measurement: docs/results/learning.md.
float default_rate(int hidden);

struct LearnOptions {
  static constexpr float kDefaultRate = -1;  // default_rate() of the draft's width

  int steps = 3;            // K: test-time training steps
  float step_decay = 0.8f;  // step k weighs step_decay^k
  ObjectiveKind objective = ObjectiveKind::kForwardKl;
  bool reach_weights = false;  // step k also weighs by the chance that serving gets there
  // Share of the columns that go on to the next step although serving would have stopped there (the
  // draft's argmax was not accepted). 1: all go on. Objectives over whole columns always take all.
  float unreached_share = 0.1f;
  int prompt_rows_max = 0;     // prompt tokens before the answer that are labels too ...
  float prompt_weight = 0.3f;  // ... and their weight
  // What serves is the mean of the weights over about this many updates, shorter at the start. 0:
  // the weights themselves.
  int average_updates = 200;
  float discard_lambda = 0.0f;      // weight of the refused branches' KL; 0: they are not packed
  int discard_top_k = 0;            // most probable tokens of a branch row's law that count; 0: all
  int64_t branch_versions_max = 8;  // branches of drafts so far behind the newest still count
  float lr_fc = kDefaultRate;
  float lr_layer = kDefaultRate;  // attention, MLP, norms
  float lr_head = kDefaultRate;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float weight_decay = 0.0f;  // of matrices, decoupled
  int warmup_updates = 0;     // the rates rise to their value over so many updates
  float dropout = 0.0f;       // of hidden units while training
  float tap_noise = 0.0f;  // uniform noise on the taps, its deviation over their root mean square
  float clip_norm = 1.0f;  // of the whole gradient; 0: off
  int context_rows_max = 1024;  // prompt rows kept before the first supervised one
  int threads = 1;
  bool bf16 = false;  // matrix products in bf16 through oneDNN; master weights stay fp32
  uint64_t seed = 1;  // of what is drawn
};

struct LearnResult {
  double loss = 0;  // of all steps, over the rows of step 0 that count; branches by lambda
  int rows = 0;     // rows of accepted paths that count, all steps together
  int columns = 0;  // supervised columns: rows of step 0, branch nodes among them
  double seconds = 0;
  int branch_rows = 0;  // rows of branches that count
};

using RecordRefs = std::span<const TraceRecord* const>;

// Leading matches of greedy drafting at every column t = P-1 ... L-2 of one record: entry i is how
// many of `depth` drafted tokens at t = P-1+i equal the served x_{t+2}, x_{t+3} ... Never more than
// tokens are left.
using Leads = std::vector<uint8_t>;

// One thread at a time. LibTorch's exceptions come out as kInternal.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual Result<std::vector<Leads>> leads(RecordRefs records, int depth) = 0;
};

// A learner's weights, vocabulary and optimiser state, in parts that are not copied: the arrays are
// on loan until the learner changes.
struct SavedLearner {
  std::vector<std::byte> head;
  std::vector<std::span<const std::byte>> arrays;  // behind the head, one after the other

  size_t bytes() const {
    size_t sum = head.size();
    for (const auto& array : arrays) sum += array.size();
    return sum;
  }
  std::vector<std::byte> joined() const {
    std::vector<std::byte> all = head;
    all.reserve(bytes());
    for (const auto& array : arrays) all.insert(all.end(), array.begin(), array.end());
    return all;
  }
};

class Learner : public Scorer {
 public:
  // One optimiser step on these records packed together. Records without a supervised row are left
  // out; with none left, or none that counts, no weight changes. With ranks: on the records of all
  // of them, each calls it, and the result is of all; an error of one rank's own leaves its records
  // out. kUnavailable: a rank is lost.
  virtual Result<LearnResult> learn(RecordRefs records) = 0;
  virtual DraftWeights snapshot() const = 0;  // what serves: see average_updates
  virtual const std::vector<int64_t>& vocab() const = 0;
  // Rising ids. Rows of surviving ids keep weights and optimiser state; new ids start from the
  // target's head, moved by as much as training has moved the rows there are on average: it pushes
  // most of them down, and a row as the target has it would be said everywhere.
  virtual Status set_vocab(std::vector<int64_t> d2t) = 0;
  // Remembers what serves now as good; go_back() begins there again, with half the rate for a
  // while. False: nothing was good yet, only the rate falls. Alone only: ranks would go different
  // ways.
  virtual void keep_good() {}
  virtual bool go_back() { return false; }
  // Of the last weights: to find ranks that have drifted apart.
  virtual uint64_t checksum() const = 0;
  virtual SavedLearner save() const = 0;
  // Of joined(), in place. Refuses another shape and then changes nothing.
  virtual Status load(std::span<const std::byte> bytes) = 0;
};

// `rows` and `ranks` must outlive the result. ranks: nullptr, alone.
Result<std::unique_ptr<Learner>> make_learner(const DraftWeights& start, const TargetRows& rows,
                                              const LearnOptions& options,
                                              RankGroup* ranks = nullptr);
Result<std::unique_ptr<Scorer>> make_scorer(const DraftWeights& draft, const TargetRows& rows,
                                            const LearnOptions& options);

}  // namespace aurora
