#include "cli/rollout_options.h"

#include <cstdlib>

#include "cli/api_key.h"

namespace aurora {

CommandLine rollout_command(RolloutOptions& o) {
  return {
      "aurora rollouts",
      "-m TARGET.gguf --state DIR [flags]",
      "Answers the newest recorded prompts again, by sampling, while the server has nothing else "
      "to do, so that the draft learns from more text than was asked for. The server ends them "
      "when a request comes.",
      {
          text_flag("-m, --model", "FILE", "the target that the server serves", o.model),
          text_flag("--state", "DIR", "of the server: its traces are read from DIR/traces",
                    o.state),
          text_flag("--buffer", "URL", "traces from nats://host:port/?... instead", o.buffer),
          text_flag("--url", "URL", "the server", o.url),
          text_flag("--api-key", "KEY",
                    "of the server, or AURORA_API_KEY or LLAMA_API_KEY in the environment",
                    o.api_key),
          number_flag("--each", "rollouts of a prompt", o.each, 1, 1000),
          number_flag("--prompts", "the newest so many prompts", o.prompts, 1, 1'000'000),
          number_flag("--in-flight", "at once; 0: as many as the server has slots", o.in_flight, 0,
                      1024),
          number_flag("--temperature", "1: the target's own law", o.temperature, 0, 100, "X"),
          number_flag("--max-tokens", "length of one at most", o.tokens_max, 2, 1'000'000),
          number_flag("--idle-s", "seconds after the server was busy before they try again",
                      o.idle_s, 0, 1e6, "X"),
          switch_flag("--once", "leave when every prompt recorded so far has its rollouts", o.once),
          help_flag(o.help),
      }};
}

Result<RolloutOptions> parse_rollout_options(const std::vector<std::string>& args) {
  RolloutOptions options;
  if (Status s = parse_flags(rollout_command(options), args); !s) return s;
  if (options.help) return options;
  options.api_key = api_key(options.api_key);
  if (options.model.empty()) return Status::invalid("give the target by -m FILE.gguf");
  if (options.state.empty() && options.buffer.empty())
    return Status::invalid("give the server's --state DIR or --buffer URL");
  return options;
}

std::string server_value(const std::vector<std::string>& args, const std::string& flag,
                         const char* environment, const char* otherwise) {
  const char* set = std::getenv(environment);
  std::string value = set != nullptr ? set : otherwise;
  for (size_t i = 0; i + 1 < args.size(); ++i)
    if (args[i] == flag) value = args[i + 1];
  return value;
}

Result<std::string> server_url(const std::vector<std::string>& args) {
  for (const std::string& arg : args) {
    if (arg.starts_with("--ssl-") || arg == "--api-prefix")
      return Status::invalid(arg + " does not go with --rollouts, which ask over plain HTTP");
    if (arg == "--api-key-file")
      return Status::invalid("--rollouts need the key itself: give --api-key or LLAMA_API_KEY");
  }
  for (const char* name :
       {"LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE", "LLAMA_ARG_API_PREFIX"})
    if (std::getenv(name) != nullptr)
      return Status::invalid(std::string(name) +
                             " does not go with --rollouts, which ask over plain HTTP");
  std::string host = server_value(args, "--host", "LLAMA_ARG_HOST", "127.0.0.1");
  if (host.ends_with(".sock"))
    return Status::invalid("--rollouts ask over TCP: give --host an address instead of " + host);
  if (host == "0.0.0.0" || host == "::") host = "127.0.0.1";
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return "http://" + host + ":" + server_value(args, "--port", "LLAMA_ARG_PORT", "8080");
}

}  // namespace aurora
