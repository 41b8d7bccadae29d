// A valid record of any size, the same for the same seed.
#pragma once

#include <random>
#include <string>

#include "trace/record.h"

namespace aurora {

struct SampleOptions {
  int32_t prompt_tokens = 5;
  int32_t served_tokens = 9;
  int32_t hidden = 8;
  int32_t law_k = 4;
  int64_t expires_ms = 0;
  std::string tenant = "tenant";
};

inline LawRows sample_laws(std::mt19937& rng, size_t rows, int32_t k) {
  LawRows laws;
  laws.k = k;
  for (size_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < k; ++i) {
      laws.ids.push_back(static_cast<int32_t>(rng() % 1000));
      laws.logprobs.push_back(-0.5f * static_cast<float>(i + 1));
    }
  }
  return laws;
}

// Steps of three drafted tokens: the first is accepted, the other two refused.
inline TraceRecord sample_record(uint32_t seed, const SampleOptions& options = {}) {
  std::mt19937 rng(seed);
  TraceRecord r;
  r.id = uint64_t{seed} << 32 | 7;
  r.created_ms = 1764000000000 + seed;
  r.expires_ms = options.expires_ms;
  r.target = "0123456789abcdef";
  r.tenant = options.tenant;
  r.domain = "sql";
  r.sampling = {.temperature = 0.7f, .top_p = 0.9f, .min_p = 0.05f, .top_k = 40, .seed = seed};
  r.hidden = options.hidden;
  for (int i = 0; i < kTapCount; ++i) r.tap_layers[i] = 2 + 10 * i;
  r.prompt_tokens = options.prompt_tokens;
  const int32_t length = options.prompt_tokens + options.served_tokens;
  for (int32_t i = 0; i < length; ++i) r.tokens.push_back(static_cast<int32_t>(rng() % 1000));
  const size_t row_taps = static_cast<size_t>(kTapCount * options.hidden);
  r.taps.resize(static_cast<size_t>(r.rows()) * row_taps);
  for (uint16_t& tap : r.taps) tap = static_cast<uint16_t>(rng());
  r.laws = sample_laws(rng, static_cast<size_t>(options.served_tokens), options.law_k);
  for (int32_t first = r.prompt_tokens + 1; first + 1 < length; first += 2) {
    VerifyStep step{.first = first,
                    .draft_version = 3,
                    .accepted = 1,
                    .drafted = {},
                    .draft_probs = {0.9f, 0.5f, 0.0f}};
    step.drafted = {r.tokens[static_cast<size_t>(first)], 2001, 2002};
    const int32_t index = static_cast<int32_t>(r.steps.size());
    r.refused.push_back({.step = index, .position = first + 1, .token = 2001});
    r.refused.push_back({.step = index, .position = first + 2, .token = 2002});
    r.steps.push_back(std::move(step));
  }
  r.refused_taps.resize(r.refused.size() * row_taps, 0x3c00);
  r.refused_laws = sample_laws(rng, r.refused.size(), options.law_k);
  r.target_steps = static_cast<int32_t>(r.steps.size()) + 1;
  return r;
}

}  // namespace aurora
