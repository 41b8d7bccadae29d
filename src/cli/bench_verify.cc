// `aurora bench verify`: what a verify batch of n tokens costs, on our kernels and on stock's, in
// one interleaved run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_options.h"
#include "cli/commands.h"
#include "kernels/kernels.h"
#include "llama.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

struct FreeModel {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
struct FreeContext {
  void operator()(llama_context* context) const { llama_free(context); }
};

double now_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

// Resident bytes of this process, file pages included.
int64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// One model with one kind of kernels, its cache filled with `context` tokens.
class Side {
 public:
  Side(const BenchOptions& options, bool ours) : options_(options) {
    kernels::set_enabled(ours);
    const int64_t before = resident_bytes();
    model_.reset(llama_model_load_from_file(options.model.c_str(), llama_model_default_params()));
    kernels::set_enabled(true);
    weight_bytes_ = resident_bytes() - before;
    if (!model_) return;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(options.context + kPrompt + kSizeMax);
    params.n_batch = kPrompt;
    params.n_ubatch = kPrompt;
    params.n_threads = params.n_threads_batch = options.threads;
    context_.reset(llama_init_from_model(model_.get(), params));
  }

  bool ok() const { return context_ != nullptr; }
  int64_t weight_bytes() const { return weight_bytes_; }
  int64_t file_bytes() const { return static_cast<int64_t>(llama_model_size(model_.get())); }

  void fill() {
    for (int at = 0; at < options_.context; at += kPrompt) {
      decode(at, std::min(kPrompt, options_.context - at), false);
    }
  }

  // Milliseconds of one decode of n tokens behind the filled context, logits of every row.
  double step_ms(int n) { return timed(options_.context, n, true); }
  // Milliseconds of a prompt of kPrompt tokens in an empty context of its own sequence, logits of
  // the last row.
  double prompt_ms() {
    llama_memory_clear(memory(), false);
    const double ms = timed(0, kPrompt, false);
    fill();
    return ms;
  }

  static constexpr int kPrompt = 512;
  static constexpr int kSizeMax = 32;

 private:
  llama_memory_t memory() { return llama_get_memory(context_.get()); }

  double timed(int at, int n, bool all_logits) {
    const double start = now_ms();
    decode(at, n, all_logits);
    const double ms = now_ms() - start;
    llama_memory_seq_rm(memory(), 0, at, -1);
    return ms;
  }

  void decode(int at, int n, bool all_logits) {
    llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; ++i) {
      batch.token[i] = 100 + (at + i) * 37 % 1000;
      batch.pos[i] = at + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = all_logits || i == n - 1;
    }
    llama_decode(context_.get(), batch);
    llama_synchronize(context_.get());
    llama_batch_free(batch);
  }

  const BenchOptions options_;
  std::unique_ptr<llama_model, FreeModel> model_;
  std::unique_ptr<llama_context, FreeContext> context_;
  int64_t weight_bytes_ = 0;
};

struct Figures {
  std::vector<double> ours, stock;  // one value a round
};

// Rounds alternate which side goes first, so that a slow spell of the machine falls on both.
template <class Measure>
Figures interleaved(Side& ours, Side& stock, int rounds, Measure measure) {
  Figures figures;
  measure(ours);
  measure(stock);
  for (int round = 0; round < rounds; ++round) {
    if (round % 2 == 0) figures.ours.push_back(measure(ours));
    figures.stock.push_back(measure(stock));
    if (round % 2 != 0) figures.ours.push_back(measure(ours));
  }
  return figures;
}

constexpr int kSizes[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32};

Json measure(Side& ours, Side& stock, const BenchOptions& options) {
  Json report;
  report["model"] = options.model;
  report["kernels"] = kernels::backend_name();
  report["threads"] = options.threads;
  report["context"] = options.context;
  report["file_bytes"] = ours.file_bytes();
  report["resident_bytes"] = {{"ours", ours.weight_bytes()}, {"stock", stock.weight_bytes()}};
  ours.fill();
  stock.fill();
  double stock_single = 0, ours_single = 0;
  std::printf(
      "%s, context %d, %d threads, kernels %s\n  n     ours ms    stock ms   ours/stock T(1)   "
      "pays above\n",
      options.model.c_str(), options.context, options.threads, kernels::backend_name().c_str());
  for (int n : kSizes) {
    const Figures figures =
        interleaved(ours, stock, options.rounds, [n](Side& side) { return side.step_ms(n); });
    const double our_ms = median(figures.ours), stock_ms = median(figures.stock);
    if (n == 1) stock_single = stock_ms, ours_single = our_ms;
    report["ours"].push_back({{"n", n}, {"ms", our_ms}, {"share", our_ms / stock_single}});
    report["stock"].push_back({{"n", n}, {"ms", stock_ms}, {"share", stock_ms / stock_single}});
    // A draft of n - 1 tokens pays where its accept length is above this (the draft's own time not
    // counted).
    report["pays_above"].push_back({{"depth", n - 1}, {"accept_len", our_ms / ours_single}});
    std::printf("%3d  %10.2f  %10.2f  %16.3f  %11.2f\n", n, our_ms, stock_ms, our_ms / stock_single,
                our_ms / ours_single);
    std::fflush(stdout);
  }
  const Figures prompt = interleaved(ours, stock, std::max(1, options.rounds / 5),
                                     [](Side& side) { return side.prompt_ms(); });
  const double our_rate = 1e3 * Side::kPrompt / median(prompt.ours);
  const double stock_rate = 1e3 * Side::kPrompt / median(prompt.stock);
  report["prompt_tokens_per_s"] = {
      {"ours", our_rate}, {"stock", stock_rate}, {"ratio", our_rate / stock_rate}};
  std::printf("prompt of %d: ours %.1f tokens/s, stock %.1f, ratio %.2f\n", Side::kPrompt, our_rate,
              stock_rate, our_rate / stock_rate);
  std::printf("weights: file %.1f MiB, resident ours %.1f MiB (%.2f of the file)\n",
              static_cast<double>(ours.file_bytes()) / 1048576,
              static_cast<double>(ours.weight_bytes()) / 1048576,
              static_cast<double>(ours.weight_bytes()) / static_cast<double>(ours.file_bytes()));
  return report;
}

int run(const BenchOptions& options) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  Side ours(options, true);
  Side stock(options, false);
  if (!ours.ok() || !stock.ok()) {
    std::fprintf(stderr, "aurora bench: cannot load %s; give a GGUF model with -m\n",
                 options.model.c_str());
    return 1;
  }
  const Json report = measure(ours, stock, options);
  if (options.json.empty()) return 0;
  std::ofstream(options.json) << report.dump(2) << '\n';
  return 0;
}

}  // namespace

int bench_main(int argc, char** argv) {
  const auto options = parse_bench_options({argv + 1, argv + argc});
  if (!options) {
    std::fprintf(stderr, "aurora bench: %s\n", options.status().message().c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(bench_help().c_str(), stdout);
    return 0;
  }
  kernels::install();
  llama_backend_init();
  return run(*options);
}

}  // namespace aurora
