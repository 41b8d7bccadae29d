#include "speculator/measure_steps.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "common.h"

namespace aurora {
namespace {

constexpr int kRounds = 3;          // timed steps of a row count, behind one that is not
constexpr llama_pos kContext = 32;  // positions held before the timed step
constexpr double kMsMax = 6000;     // of the whole measurement; T(1) and T(2) are always measured
constexpr std::array<int, 12> kRows = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

double decode_ms(llama_context* target, llama_token token, int32_t count) {
  common_batch batch(target);
  for (int32_t i = 0; i < count; ++i) batch.add(token, kContext + i, 0, true);
  const int64_t begin = steady_us();
  if (llama_process(target, LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) return 0;
  llama_synchronize(target);
  const double ms = static_cast<double>(steady_us() - begin) / 1000.0;
  llama_memory_seq_rm(llama_get_memory(target), 0, kContext, -1);
  return ms;
}

}  // namespace

std::vector<StepPoint> measure_steps(llama_context* target, int32_t rows_max) {
  const auto batch_max =
      static_cast<int32_t>(std::min(llama_n_batch(target), llama_n_ubatch(target)));
  const auto context_max = static_cast<int32_t>(llama_n_ctx_seq(target)) - kContext - 2;
  const int32_t most = std::min({rows_max, batch_max, context_max});
  const llama_vocab* vocab = llama_model_get_vocab(llama_get_model(target));
  const llama_token token = llama_vocab_n_tokens(vocab) / 2;
  std::vector<StepPoint> points;
  for (llama_pos i = 0; most > 0 && i < kContext; i += batch_max) {
    common_batch prefix(target);
    for (llama_pos p = i; p < std::min(kContext, i + batch_max); ++p)
      prefix.add(token, p, 0, p + 1 == kContext);
    if (llama_process(target, LLAMA_PROCESS_TYPE_DECODE, prefix.get()) != 0) return points;
  }
  const int64_t begin = steady_us();
  for (const int rows : kRows) {
    const double spent = static_cast<double>(steady_us() - begin) / 1000.0;
    if (rows > most || (rows > 2 && spent > kMsMax)) break;
    if (decode_ms(target, token, rows) <= 0) break;  // the first of a batch size builds its graph
    double best = decode_ms(target, token, rows);    // other processes only ever add time
    for (int round = 1; round < kRounds; ++round)
      best = std::min(best, decode_ms(target, token, rows));
    if (best <= 0) break;
    points.push_back({rows, best});
  }
  llama_memory_clear(llama_get_memory(target), true);
  return points;
}

}  // namespace aurora
