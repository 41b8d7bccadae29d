// Which target tokens the draft can say: the most frequent ones of the latest traffic, weighted by
// the target's own probability.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "trace/record.h"

namespace aurora {

class DraftVocab {
 public:
  DraftVocab(int target_vocab, int size);

  // Laws by probability, served tokens by 1, prompt tokens by a hundredth. Ids out of range are
  // skipped.
  void observe(const TraceRecord& record);

  // What was observed so far counts half as much from now on. The caller's every so many records:
  // otherwise a new language would have to outweigh all that was ever served.
  void halve();

  // `size` rising ids: the heaviest; where fewer were seen, low ids follow (tokenizers give those
  // to common tokens).
  std::vector<int64_t> best() const;

  // best(), but `current` itself when the exchange would gain less than `gain_min` of the observed
  // mass: each exchange throws trained head rows away.
  std::vector<int64_t> next(const std::vector<int64_t>& current, double gain_min) const;

  double covered(const std::vector<int64_t>& ids) const;  // share of the observed mass, 0 ... 1

  // For the checkpoint: (id, weight) of every id seen.
  std::vector<std::pair<int32_t, float>> state() const;
  void restore(const std::vector<std::pair<int32_t, float>>& state);

 private:
  void add(int32_t id, float weight);
  size_t size_;
  std::vector<float> weight_;  // [target_vocab]
};

}  // namespace aurora
