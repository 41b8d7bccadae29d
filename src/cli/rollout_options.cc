#include "cli/rollout_options.h"

#include <cstdlib>

#include "base/parse_number.h"

namespace aurora {

const char* const kRolloutUsage =
    R"(usage: aurora rollouts -m TARGET.gguf --state DIR [options]

Answers the newest recorded prompts again, by sampling, while the server has nothing else to do, so that
the draft learns from more text than was asked for. The server ends them when a request comes.

  -m, --model FILE      the target that the server serves
  --state DIR           of the server: its traces are read from DIR/traces
  --buffer URL          traces from nats://host:port/?... instead
  --url URL             the server (http://127.0.0.1:8080)
  --api-key KEY         of the server (or AURORA_API_KEY or LLAMA_API_KEY in the environment)
  --each N              rollouts of a prompt (4)
  --prompts N           the newest so many prompts (512)
  --in-flight N         at once (0: as many as the server has slots)
  --temperature X       (1: the target's own law)
  --max-tokens N        length of one at most (256)
  --idle-s X            seconds after the server was busy before they try again (2)
  --once                leave when every prompt recorded so far has its rollouts
)";

namespace {

bool set_option(RolloutOptions& o, const std::string& flag, const std::string& value) {
  if (flag == "-m" || flag == "--model") return !(o.model = value).empty();
  if (flag == "--state") return !(o.state = value).empty();
  if (flag == "--buffer") return !(o.buffer = value).empty();
  if (flag == "--url") return !(o.url = value).empty();
  if (flag == "--api-key") return !(o.api_key = value).empty();
  if (flag == "--each") return parse_number(value, 1, 1000, o.each);
  if (flag == "--prompts") return parse_number(value, 1, 1'000'000, o.prompts);
  if (flag == "--in-flight") return parse_number(value, 0, 1024, o.in_flight);
  if (flag == "--temperature") return parse_number(value, 0.0, 100.0, o.temperature);
  if (flag == "--max-tokens") return parse_number(value, 2, 1'000'000, o.tokens_max);
  if (flag == "--idle-s") return parse_number(value, 0.0, 1e6, o.idle_s);
  return false;
}

}  // namespace

Result<RolloutOptions> parse_rollout_options(const std::vector<std::string>& args) {
  RolloutOptions options;
  for (const char* name : {"LLAMA_API_KEY", "AURORA_API_KEY"})
    if (const char* key = std::getenv(name)) options.api_key = key;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--help" || args[i] == "-h") {
      options.help = true;
      return options;
    }
    if (args[i] == "--once") {
      options.once = true;
      continue;
    }
    if (i + 1 == args.size()) return Status::invalid(args[i] + " needs a value");
    const std::string& flag = args[i];
    const std::string& value = args[++i];
    if (!set_option(options, flag, value))
      return Status::invalid("impossible flag or value: " + flag + " " + value +
                             "; aurora rollouts --help lists them");
  }
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
