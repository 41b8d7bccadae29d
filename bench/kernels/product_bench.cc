// Matrix products of every type over 1 to 32 tokens on one thread: time, and weights read a second.
//   product_bench [--benchmark_filter=Q4_K]
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/product.h"

namespace aurora::kernels {
namespace {

void run(benchmark::State& state, WeightType type, int64_t rows, int64_t columns) {
  const int64_t tokens = state.range(0);
  std::vector<uint8_t> weights(packed_bytes(type, rows, columns));
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<uint8_t>((i * 37) & 0x3f);
  std::vector<float> values(static_cast<size_t>(columns * tokens), 0.5f);
  std::vector<float> out(static_cast<size_t>(rows * tokens));
  std::vector<uint8_t> activations(activation_bytes(type, tokens, columns));
  const Matrix matrix{type, rows, columns, weights.data()};
  for (auto _ : state) {
    for (int64_t t = 0; t < tokens; ++t) {
      round_token(backend(), matrix, t, tokens, values.data() + t * columns, 0, columns,
                  activations.data());
    }
    multiply_panels(backend(), matrix, activations.data(), tokens, 0, matrix.panels(), out.data(),
                    rows);
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["GMAC/s"] = benchmark::Counter(static_cast<double>(rows * columns * tokens) * 1e-9,
                                                benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(weights.size()) * 1e-9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void round_only(benchmark::State& state) {
  constexpr int64_t kColumns = 1536;
  std::vector<float> values(kColumns, 0.5f);
  std::vector<ActivationBlock> blocks(kColumns / kBlock);
  for (auto _ : state) {
    backend().quantize(WeightType::kQ6_K, values.data(), 0, kColumns / kBlock, 1, blocks.data());
    benchmark::DoNotOptimize(blocks.data());
  }
}
BENCHMARK(round_only);

const int kRegistered = [] {
  for (int type = 0; type < kWeightTypeCount; ++type) {
    const auto weights = static_cast<WeightType>(type);
    auto* bench = benchmark::RegisterBenchmark(
        name_of(weights), [weights](benchmark::State& state) { run(state, weights, 8960, 1536); });
    for (int64_t tokens : {1, 2, 4, 8, 16, 32}) bench->Arg(tokens);
  }
  return 0;
}();

}  // namespace
}  // namespace aurora::kernels

BENCHMARK_MAIN();
