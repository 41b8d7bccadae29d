// Time of one attention operation. Arguments: query rows (the last ones of one sequence), context,
// threads.
#include <benchmark/benchmark.h>

#include <barrier>
#include <random>
#include <thread>

#include "kernels/attention.h"

namespace aurora::attention {
namespace {

struct Model {
  int heads;
  int kv_heads;
  int dim;
};
constexpr Model kSmolLm2 = {9, 3, 64};
constexpr Model kQwen2 = {12, 2, 128};

constexpr uint16_t kHidden = 0xfc00;

struct Inputs {
  Inputs(Model model, int rows, int context)
      : cells((context + 255) / 256 * 256),
        queries(static_cast<size_t>(rows) * model.heads * model.dim),
        keys(static_cast<size_t>(cells) * model.kv_heads * model.dim),
        values(keys.size()),
        mask(static_cast<size_t>(rows) * cells, kHidden),
        out(queries.size()) {
    std::mt19937 random(1);
    for (float& value : queries) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    for (uint16_t& value : keys)
      value = static_cast<uint16_t>(0x3000 + random() % 0x0c00);  // 1/8 ... 1
    for (uint16_t& value : values) value = static_cast<uint16_t>(0x3000 + random() % 0x0c00);
    for (int row = 0; row < rows; ++row) {
      std::fill_n(mask.begin() + static_cast<ptrdiff_t>(row) * cells, context - rows + row + 1, 0);
    }
  }

  Call call(Model model, int rows, const Plan& plan) {
    const size_t dim = model.dim;
    Call made;
    made.queries = {reinterpret_cast<const std::byte*>(queries.data()), model.heads * dim * 4,
                    dim * 4};
    made.keys = {reinterpret_cast<const std::byte*>(keys.data()), model.kv_heads * dim * 2, dim * 2,
                 0, true};
    made.values = {reinterpret_cast<const std::byte*>(values.data()), model.kv_heads * dim * 2,
                   dim * 2, 0, true};
    made.out = {reinterpret_cast<std::byte*>(out.data()), model.heads * dim * 4, dim * 4};
    made.kv_heads = model.kv_heads;
    made.query_rows = rows;
    made.cells = cells;
    made.key_dim = made.value_dim = model.dim;
    made.scale = 0.125f;
    made.plan = &plan;
    return made;
  }

  int cells;
  std::vector<float> queries;
  std::vector<uint16_t> keys, values, mask;
  std::vector<float> out;
};

// One operation after the other, each with the barriers that ggml has.
void attention(benchmark::State& state, Model model) {
  const int rows = static_cast<int>(state.range(0));
  const int context = static_cast<int>(state.range(1));
  const int threads = static_cast<int>(state.range(2));
  Inputs inputs(model, rows, context);
  Plan plan;
  if (!make_plan({inputs.mask.data(), static_cast<size_t>(inputs.cells), 0, rows, inputs.cells},
                 model.heads / model.kv_heads, plan)) {
    state.SkipWithError("mask");
    return;
  }
  const Call call = inputs.call(model, rows, plan);
  std::vector<std::byte> work(
      work_bytes({rows * plan.heads_per_kv, inputs.cells, model.dim, model.dim}, threads));
  std::barrier meet(threads);
  bool running = true;
  const auto take_part = [&](int index) {
    const Worker worker = {index, threads, work.data()};
    const bool shared = attend(call, best_kernels(), worker);
    meet.arrive_and_wait();
    if (!shared) return;
    attend_shared(call, best_kernels(), worker);
    meet.arrive_and_wait();
  };
  std::vector<std::jthread> helpers;
  for (int index = 1; index < threads; ++index) {
    helpers.emplace_back([&, index] {
      for (meet.arrive_and_wait(); running; meet.arrive_and_wait()) take_part(index);
    });
  }
  for (auto _ : state) {
    meet.arrive_and_wait();
    take_part(0);
    benchmark::ClobberMemory();
  }
  running = false;
  meet.arrive_and_wait();
  const double pairs = static_cast<double>(rows) * model.heads * context;
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * pairs * model.dim, benchmark::Counter::kIsIterationInvariantRate);
}

void arguments(benchmark::internal::Benchmark* bench) {
  for (const int threads : {1, 2}) {
    for (const int context : {256, 4096, 16384}) {
      for (const int rows : {1, 2, 4, 8, 16}) bench->Args({rows, context, threads});
    }
    bench->Args({512, 512, threads})->Args({512, 4096, threads});
  }
  bench->ArgNames({"rows", "context", "threads"})->UseRealTime();
}

BENCHMARK_CAPTURE(attention, SmolLM2, kSmolLm2)->Apply(arguments);
BENCHMARK_CAPTURE(attention, Qwen2, kQwen2)->Apply(arguments);

// What a thread adds for each decode step (the first layer of a graph).
void plan_of_mask(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  Inputs inputs(kSmolLm2, rows, static_cast<int>(state.range(1)));
  Plan plan;
  for (auto _ : state) {
    benchmark::DoNotOptimize(make_plan(
        {inputs.mask.data(), static_cast<size_t>(inputs.cells), 0, rows, inputs.cells}, 3, plan));
  }
}
BENCHMARK(plan_of_mask)->ArgNames({"rows", "context"})->ArgsProduct({{1, 8}, {256, 4096, 16384}});

}  // namespace
}  // namespace aurora::attention

BENCHMARK_MAIN();
