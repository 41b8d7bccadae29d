#include "speculator/verify_cost.h"

#include <vector>

#include "base/clock.h"
#include "base/median.h"
#include "common.h"

namespace aurora {
namespace {

constexpr int kRounds = 5;
constexpr llama_pos kContext = 32;  // positions held before the timed step

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

VerifyCost measure_verify_cost(llama_context* target, int32_t depth) {
  VerifyCost cost;
  cost.depth = depth;
  const llama_vocab* vocab = llama_model_get_vocab(llama_get_model(target));
  const llama_token token = llama_vocab_n_tokens(vocab) / 2;
  if (llama_n_ctx_seq(target) < static_cast<uint32_t>(kContext + depth + 2)) return cost;
  common_batch prefix(target);
  for (llama_pos i = 0; i < kContext; ++i) prefix.add(token, i, 0, i + 1 == kContext);
  std::vector<double> single, verify;
  if (llama_process(target, LLAMA_PROCESS_TYPE_DECODE, prefix.get()) == 0) {
    decode_ms(target, token, 1);  // the first of a batch size builds its graph
    decode_ms(target, token, depth + 1);
    for (int round = 0; round < kRounds; ++round) {
      single.push_back(decode_ms(target, token, 1));
      verify.push_back(decode_ms(target, token, depth + 1));
    }
    cost.single_ms = median(std::move(single));
    cost.verify_ms = median(std::move(verify));
  }
  llama_memory_clear(llama_get_memory(target), true);
  return cost;
}

}  // namespace aurora
