#include "cli/status_options.h"

namespace aurora {
namespace {

constexpr int kWatchSeconds = 2, kWatchSecondsMax = 86'400;

}  // namespace

CommandLine status_command(StatusOptions& o) {
  Flag watch = number_flag("--watch", "again every so many seconds, until Ctrl-C", o.watch_s, 1,
                           kWatchSecondsMax, "[SECONDS]");
  watch.otherwise = "";
  watch.what += "; " + std::to_string(kWatchSeconds) + " where none are given";
  watch.set = [&o, number = std::move(watch.set)](const std::string& v) {
    if (!v.empty()) return number(v);
    o.watch_s = kWatchSeconds;
    return true;
  };
  return {
      "aurora status",
      "http://HOST:PORT [http://...] | --all --buffer nats://HOST[/?...]",
      "What servers say of themselves in /metrics, a line each; with --all every server and "
      "trainer "
      "that reports to these brokers.",
      {
          switch_flag("--all", "all that report to the brokers of --buffer", o.all),
          text_flag("--buffer", "URL", "brokers, nats://HOST[/?...] as the servers have", o.buffer),
          switch_flag("--json", "one JSON object instead of a table", o.json),
          std::move(watch),
          text_flag("--api-key", "KEY",
                    "of the servers; AURORA_API_KEY or LLAMA_API_KEY in the environment keep it "
                    "out of the list of processes",
                    o.key),
          help_flag(o.help),
      },
      &o.servers};
}

Result<StatusOptions> parse_status_options(const std::vector<std::string>& args) {
  StatusOptions o;
  if (Status s = parse_flags(status_command(o), args); !s) return s;
  if (o.help) return o;
  for (const std::string& server : o.servers)
    if (!server.starts_with("http://"))
      return Status::invalid("'" + server + "' is no address; give servers as http://HOST:PORT");
  if (o.all && o.buffer.empty())
    return Status::invalid("--all asks the brokers; give --buffer nats://HOST as the servers have");
  if (!o.all && !o.buffer.empty())
    return Status::invalid("--buffer is for --all; or give the servers' http:// addresses");
  if (!o.all && o.servers.empty())
    return Status::invalid("give the servers' http:// addresses, or --all --buffer nats://HOST");
  return o;
}

}  // namespace aurora
