#include "cli/traces_options.h"

namespace aurora {

CommandLine traces_stats_command(TracesOptions& o) {
  return {
      "aurora traces stats",
      "-m TARGET.gguf | --state DIR | --buffer URL  [flags]",
      "What is recorded: how many requests, their bytes and age, and how many are gone again. What "
      "was never recorded is counted, by cause, by the server: --url asks it.",
      {
          text_flag("-m, --model", "FILE",
                    "the target: the state folder is the one that aurora serve uses for it",
                    o.model),
          text_flag("--state", "DIR", "the state folder", o.state),
          text_flag("--buffer", "URL", "traces at nats://host:port/?... instead", o.buffer),
          text_flag("--url", "URL", "a server, for what it dropped since it started", o.url),
          text_flag("--api-key", "KEY",
                    "of the server, or AURORA_API_KEY or LLAMA_API_KEY in the environment", o.key),
          switch_flag("--json", "JSON instead of a table", o.json),
          help_flag(o.help),
      }};
}

Result<TracesOptions> parse_traces_options(const std::vector<std::string>& args) {
  TracesOptions o;
  if (Status s = parse_flags(traces_stats_command(o), args); !s) return s;
  if (o.help) return o;
  if (!o.url.empty() && !o.url.starts_with("http://"))
    return Status::invalid("--url must begin with http://");
  const int places =
      (o.model.empty() ? 0 : 1) + (o.state.empty() ? 0 : 1) + (o.buffer.empty() ? 0 : 1);
  if (places != 1)
    return Status::invalid("give one of -m TARGET.gguf, --state DIR and --buffer URL");
  return o;
}

}  // namespace aurora
