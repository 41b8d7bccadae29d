#include "replay/replay_options.h"

#include <cstdint>

namespace aurora {

CommandLine replay_command(ReplayOptions& o) {
  constexpr size_t kCountMax = 1'000'000'000;
  TrafficOptions& traffic = o.traffic;
  return {
      "aurora replay",
      "FILE.jsonl... [flags]",
      "Sends the prompts of traffic files to a running server and reports accept length (tokens "
      "generated for each step of the target), tokens/s and every swap of the draft.",
      {
          text_flag("--url", "URL", "the server", o.url),
          text_flag("--api-key", "KEY", "of the server", o.api_key),
          number_flag("--concurrency", "requests in flight", o.concurrency, 1, 256),
          choice_flag("--order", "sequential: file after file; mixed: all lines shuffled",
                      traffic.mixed, {{"sequential", false}, {"mixed", true}}),
          number_flag("--skip", "lines of each file left out first", traffic.skip, 0, kCountMax),
          number_flag("--count", "lines of each file taken then; 0: all", traffic.count, 0,
                      kCountMax),
          number_flag("--max-tokens", "length of an answer at most", o.tokens_max, 1, 1'000'000),
          number_flag("--temperature", "of the sampling", o.temperature, 0, 100, "X"),
          number_flag("--seed", "of the sampling and of the shuffle", traffic.seed, 0, UINT32_MAX),
          number_flag("--baseline-every",
                      "after each N requests, ask for the last of them again without a draft; 0: "
                      "never",
                      o.baseline_every, 0, kCountMax),
          text_flag("--json", "FILE", "figures", o.json_path),
          text_flag("--html", "FILE", "a self-contained page with the plot", o.html_path),
          text_flag("--svg", "FILE", "the plot alone", o.svg_path),
          help_flag(o.help),
      },
      &o.files};
}

Result<ReplayOptions> parse_replay_options(const std::vector<std::string>& args) {
  ReplayOptions options;
  if (Status s = parse_flags(replay_command(options), args); !s) return s;
  if (options.help) return options;
  if (options.files.empty()) return Status::invalid("no traffic file given");
  if (options.url.rfind("http://", 0) != 0) return Status::invalid("--url must begin with http://");
  return options;
}

}  // namespace aurora
