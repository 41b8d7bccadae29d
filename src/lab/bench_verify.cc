// `aurora bench verify`: what a verify batch of n tokens costs, on our kernels and on stock's, in
// one interleaved run.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/median.h"
#include "kernels/kernels.h"
#include "lab/bench.h"
#include "lab/bench_options.h"
#include "lab/bench_side.h"
#include "llama.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSizes[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32};

struct Figures {
  std::vector<double> ours, stock, stock_single;  // milliseconds, one value a round
};

struct Sides {
  BenchSide& ours;
  BenchSide& stock;
};

// Rounds alternate which side goes first, and each has stock's single step beside it: a slow spell
// of the machine falls on all three.
Figures steps_of(const Sides& sides, int n, int rounds) {
  Figures figures;
  sides.ours.step_ms(n);
  sides.stock.step_ms(n);
  for (int round = 0; round < rounds; ++round) {
    if (round % 2 == 0) figures.ours.push_back(sides.ours.step_ms(n));
    figures.stock_single.push_back(sides.stock.step_ms(1));
    figures.stock.push_back(sides.stock.step_ms(n));
    if (round % 2 != 0) figures.ours.push_back(sides.ours.step_ms(n));
  }
  return figures;
}

void measure_steps(const Sides& sides, const BenchOptions& options, Json& report) {
  sides.ours.fill();
  sides.stock.fill();
  std::printf(
      "  n     ours ms    stock ms   ours / stock T(1)   stock / stock T(1)   pays above\n");
  double single_share = 0;
  for (int n : kSizes) {
    const Figures figures = steps_of(sides, n, options.rounds);
    const double ours = median(figures.ours), stock = median(figures.stock);
    const double single = median(figures.stock_single);
    if (n == 1) single_share = ours / single;
    // A draft of n - 1 tokens pays where its accept length is above this (the draft's own time not
    // counted).
    const double pays = ours / single / single_share;
    report["ours"].push_back({{"n", n}, {"ms", ours}, {"share", ours / single}});
    report["stock"].push_back({{"n", n}, {"ms", stock}, {"share", stock / single}});
    report["pays_above"].push_back({{"depth", n - 1}, {"accept_len", pays}});
    std::printf("%3d  %10.2f  %10.2f  %18.3f  %19.3f  %11.2f\n", n, ours, stock, ours / single,
                stock / single, pays);
    std::fflush(stdout);
  }
}

void measure_prompt(const Sides& sides, const BenchOptions& options, Json& report) {
  std::vector<double> ours, stock;
  for (int round = 0; round < std::max(2, options.rounds / 3); ++round) {
    ours.push_back(sides.ours.prompt_ms());
    stock.push_back(sides.stock.prompt_ms());
  }
  const double our_rate = 1e3 * BenchSide::kPrompt / median(ours);
  const double stock_rate = 1e3 * BenchSide::kPrompt / median(stock);
  report["prompt_tokens_per_s"] = {
      {"ours", our_rate}, {"stock", stock_rate}, {"ratio", our_rate / stock_rate}};
  std::printf("prompt of %d: ours %.1f tokens/s, stock %.1f, ratio %.2f\n", BenchSide::kPrompt,
              our_rate, stock_rate, our_rate / stock_rate);
}

void report_memory(const Sides& sides, Json& report) {
  constexpr double kMiB = 1048576;
  const auto file = static_cast<double>(sides.ours.file_bytes());
  const auto resident = static_cast<double>(sides.ours.weight_bytes());
  report["file_bytes"] = sides.ours.file_bytes();
  report["resident_bytes"] = {{"ours", sides.ours.weight_bytes()},
                              {"stock", sides.stock.weight_bytes()}};
  std::printf("weights: file %.1f MiB, resident ours %.1f MiB (%.3f of the file)\n", file / kMiB,
              resident / kMiB, resident / file);
}

Status measure_perplexity(const Sides& sides, const BenchOptions& options, Json& report) {
  std::ostringstream text;
  text << std::ifstream(options.text).rdbuf();
  const auto tokens = sides.ours.tokenize(text.str());
  if (tokens.size() < BenchSide::kPrompt) {
    return Status::invalid(options.text + " has fewer than " + std::to_string(BenchSide::kPrompt) +
                           " tokens; give a longer text with --text");
  }
  const double ours = sides.ours.perplexity(tokens);
  const double stock = sides.stock.perplexity(tokens);
  report["perplexity"] = {{"ours", ours}, {"stock", stock}, {"ratio", ours / stock}};
  std::printf("perplexity of %s (%zu tokens): ours %.5f, stock %.5f, ratio %.5f\n",
              options.text.c_str(), tokens.size(), ours, stock, ours / stock);
  return Status::ok();
}

int run(const BenchOptions& options) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  BenchSide ours(options, true);
  BenchSide stock(options, false);
  if (!ours.ok() || !stock.ok()) {
    std::fprintf(stderr, "aurora bench: cannot load %s; give a GGUF model with -m\n",
                 options.model.c_str());
    return 1;
  }
  const Sides sides{ours, stock};
  Json report;
  report["model"] = options.model;
  report["kernels"] = kernels::backend_name();
  report["threads"] = options.threads;
  report["context"] = options.context;
  std::printf("%s, context %d, %d threads, kernels %s\n", options.model.c_str(), options.context,
              options.threads, kernels::backend_name().c_str());
  report_memory(sides, report);
  measure_steps(sides, options, report);
  measure_prompt(sides, options, report);
  if (!options.text.empty()) {
    if (Status status = measure_perplexity(sides, options, report); !status) {
      std::fprintf(stderr, "aurora bench: %s\n", status.message().c_str());
      return 2;
    }
  }
  if (!options.json.empty()) std::ofstream(options.json) << report.dump(2) << '\n';
  return 0;
}

}  // namespace

int bench_verify_main(const std::vector<std::string>& args) {
  const auto options = parse_bench_options(args);
  if (!options) return refuse("aurora bench verify", options.status());
  if (options->help) return print_help(bench_verify_command);
  kernels::install();
  llama_backend_init();
  return run(*options);
}

}  // namespace aurora
