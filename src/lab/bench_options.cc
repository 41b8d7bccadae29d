#include "lab/bench_options.h"

#include <thread>

namespace aurora {

CommandLine bench_verify_command(BenchOptions& o) {
  return {
      "aurora bench verify",
      "-m MODEL.gguf [flags]",
      "Milliseconds of a decode of n tokens with the logits of every row, on our kernels and on "
      "stock's, interleaved in one run.",
      {
          text_flag("-m, --model", "FILE", "the target", o.model),
          text_flag("--json", "FILE",
                    "figures: times, their share of stock's T(1), above which accept length a "
                    "draft of each depth pays",
                    o.json),
          text_flag("--text", "FILE",
                    "also the perplexity of a text of at least 512 tokens, on both", o.text),
          word_or_number_flag("-t, --threads", "all", 0, "all: one for each core", o.threads, 1,
                              512),
          number_flag("--context", "tokens in the cache before each decode", o.context, 1, 1 << 20),
          number_flag("--rounds", "runs of each size and side; medians are reported", o.rounds, 1,
                      10000),
          help_flag(o.help),
      }};
}

Result<BenchOptions> parse_bench_options(const std::vector<std::string>& args) {
  BenchOptions options;
  if (Status s = parse_flags(bench_verify_command(options), args); !s) return s;
  if (options.threads == 0)
    options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (options.model.empty() && !options.help)
    return Status::invalid("no model given; run aurora bench verify -m MODEL.gguf");
  return options;
}

CommandLine bench_learn_command(BenchLearnOptions& o) {
  CommandLine line = {
      "aurora bench learn",
      "-m TARGET.gguf --trace-db DIR --variants FILE --out DIR [flags]",
      "Replays recorded traces for every variant: each window of requests is scored by the draft "
      "that would have served it, then trained on. Record a stream with `aurora serve --state S "
      "--buffer-mib N` and `aurora replay`; its traces are in S/traces.",
      {
          text_flag("-m, --model", "FILE", "the target that served the stream", o.model),
          text_flag("--variants", "FILE",
                    "one a line: NAME: FLAGS, flags of aurora train, and --passes N for this "
                    "variant alone",
                    o.variants),
          text_flag("--out", "DIR",
                    "results: DIR/NAME.json each, DIR/learn.json, DIR/learn.html. Run again, it "
                    "goes on where it stopped",
                    o.out),
      }};
  for (Flag& flag : handed_on(prequential_flags(o.checked), o.run))
    line.flags.push_back(std::move(flag));
  line.flags.push_back(help_flag(o.help));
  return line;
}

Status parse_bench_learn_options(const std::vector<std::string>& args, BenchLearnOptions& options) {
  if (Status s = parse_flags(bench_learn_command(options), args); !s || options.help) return s;
  if (options.model.empty() || options.variants.empty() || options.out.empty() ||
      options.checked.trace_dbs.empty())
    return Status::invalid("give -m, --trace-db, --variants and --out; --help says what they are");
  return Status::ok();
}

}  // namespace aurora
