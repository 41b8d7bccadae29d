// aurora-fill-traces MODEL TRACES_DIR COUNT PROMPT SERVED: records of the model's shape, of no
// sense, for what only their size matters to. No server may be up beside it.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "draft/taps.h"
#include "registry/target_fingerprint.h"
#include "trace/trace_buffer.h"
#include "train/target_weights.h"

namespace aurora {
namespace {

constexpr int32_t kLawK = 32;
constexpr uint16_t kHalfOne = 0x3c00, kHalfSign = 0x8000, kHalfFraction = 0x03ff;

// A token is followed by one and the same, mostly: there is something to learn.
TraceRecord record_of(const DraftShape& shape, const std::string& target, int32_t prompt,
                      int32_t served, std::mt19937& rng) {
  TraceRecord r;
  r.id = uint64_t{rng()} << 32 | rng();
  r.created_ms = 1764000000000;
  r.target = target;
  r.hidden = shape.hidden;
  std::copy_n(shape.tap_layers, kTapCount, r.tap_layers);
  r.prompt_tokens = prompt;
  const auto common = static_cast<uint32_t>(std::min(shape.target_vocab, 1000));
  for (int32_t i = 0; i < prompt + served; ++i)
    r.tokens.push_back(i > 0 && rng() % 4 != 0
                           ? (r.tokens.back() * 7 + 1) % static_cast<int32_t>(common)
                           : static_cast<int32_t>(rng() % common));
  r.taps.resize(static_cast<size_t>(r.rows()) * kTapCount * static_cast<size_t>(shape.hidden));
  for (uint16_t& tap : r.taps)
    tap = static_cast<uint16_t>(kHalfOne | (rng() & (kHalfSign | kHalfFraction)));
  r.laws.k = kLawK;
  for (int32_t row = 0; row < served; ++row)
    for (int32_t i = 0; i < kLawK; ++i) {
      r.laws.ids.push_back(i == 0 ? r.tokens[static_cast<size_t>(prompt + row)] : i);
      r.laws.logprobs.push_back(-0.2f - static_cast<float>(i));
    }
  r.refused_laws.k = kLawK;
  r.target_steps = served;
  return r;
}

Status fill(char** argv) {
  const auto target = TargetWeights::open(argv[1]);
  if (!target) return target.status();
  const auto fingerprint = target_fingerprint(argv[1]);
  if (!fingerprint) return fingerprint.status();
  TraceBufferOptions options;
  options.dir = argv[2];
  options.bytes_max = uint64_t{64} << 30;
  const auto buffer = open_lmdb_buffer(options);
  if (!buffer) return buffer.status();
  std::mt19937 rng(1);
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    const auto appended = (*buffer)->append(
        record_of((*target)->shape(), *fingerprint, std::atoi(argv[4]), std::atoi(argv[5]), rng));
    if (!appended) return appended.status();
  }
  return Status::ok();
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: aurora-fill-traces MODEL TRACES_DIR COUNT PROMPT SERVED\n");
    return 1;
  }
  const aurora::Status status = aurora::fill(argv);
  if (!status) std::fprintf(stderr, "aurora-fill-traces: %s\n", status.message().c_str());
  return status ? 0 : 1;
}
