#include "train/draft_vocab.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace aurora {

DraftVocab::DraftVocab(int target_vocab, int size)
    : size_(static_cast<size_t>(std::min(target_vocab, size))),
      weight_(static_cast<size_t>(target_vocab), 0.0f) {}

void DraftVocab::add(int32_t id, float weight) {
  if (id >= 0 && static_cast<size_t>(id) < weight_.size())
    weight_[static_cast<size_t>(id)] += weight;
}

void DraftVocab::observe(const TraceRecord& record) {
  constexpr float kPromptWeight = 0.01f;
  for (size_t i = 0; i < record.tokens.size(); ++i)
    add(record.tokens[i], i < static_cast<size_t>(record.prompt_tokens) ? kPromptWeight : 1.0f);
  for (size_t i = 0; i < record.laws.ids.size(); ++i)
    add(record.laws.ids[i], std::exp(record.laws.logprobs[i]));
}

// What is next to nothing becomes nothing: a token that was said once is not kept for ever.
void DraftVocab::halve() {
  constexpr float kLeast = 1e-4f;
  for (float& weight : weight_) weight = weight * 0.5f < kLeast ? 0.0f : weight * 0.5f;
}

std::vector<int64_t> DraftVocab::best() const {
  std::vector<int64_t> ids(weight_.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [this](int64_t a, int64_t b) {
    return weight_[static_cast<size_t>(a)] > weight_[static_cast<size_t>(b)];
  });
  ids.resize(size_);
  std::sort(ids.begin(), ids.end());
  return ids;
}

double DraftVocab::covered(const std::vector<int64_t>& ids) const {
  const double total = std::accumulate(weight_.begin(), weight_.end(), 0.0);
  double inside = 0;
  for (int64_t id : ids) inside += weight_[static_cast<size_t>(id)];
  return total > 0 ? inside / total : 1.0;
}

std::vector<int64_t> DraftVocab::next(const std::vector<int64_t>& current, double gain_min) const {
  std::vector<int64_t> candidate = best();
  if (current.size() == candidate.size() && covered(candidate) - covered(current) < gain_min)
    return current;
  return candidate;
}

std::vector<std::pair<int32_t, float>> DraftVocab::state() const {
  std::vector<std::pair<int32_t, float>> out;
  for (size_t i = 0; i < weight_.size(); ++i)
    if (weight_[i] > 0) out.emplace_back(static_cast<int32_t>(i), weight_[i]);
  return out;
}

void DraftVocab::restore(const std::vector<std::pair<int32_t, float>>& state) {
  std::fill(weight_.begin(), weight_.end(), 0.0f);
  for (const auto& [id, weight] : state) add(id, weight);
}

}  // namespace aurora
