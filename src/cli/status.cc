// `aurora status`: what servers and trainers say of themselves, a line each.
#include "cli/status.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/parse_number.h"
#include "cli/commands.h"
#include "cli/http_client.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

constexpr const char* kUsage =
    "usage: aurora status http://HOST:PORT [http://...]       these servers, by their /metrics\n"
    "       aurora status --all --buffer nats://HOST[/?...]   all servers and the trainer that "
    "report to these brokers\n"
    "       --json             one JSON object instead of a table\n"
    "       --watch [SECONDS]  again every 2 (or so many) seconds, until Ctrl-C\n"
    "       --api-key KEY      of the servers; AURORA_API_KEY or LLAMA_API_KEY in the environment "
    "keep it\n"
    "                          out of the list of processes\n";

constexpr int kWatchSeconds = 2;
constexpr int kWatchSecondsMax = 86'400;

struct Options {
  bool all = false, json = false, help = false;
  int watch_s = 0;  // 0: once
  std::string buffer, key;
  std::vector<std::string> servers;
};

Result<Options> parse(const std::vector<std::string>& args) {
  Options o;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--all") o.all = true;
    else if (args[i] == "--json") o.json = true;
    else if (args[i] == "--help" || args[i] == "-h") o.help = true;
    else if (args[i] == "--buffer" && i + 1 < args.size()) o.buffer = args[++i];
    else if (args[i] == "--api-key" && i + 1 < args.size()) o.key = args[++i];
    else if (args[i] == "--watch") {
      o.watch_s = kWatchSeconds;
      const bool number =
          i + 1 < args.size() && std::isdigit(static_cast<unsigned char>(args[i + 1][0]));
      if (number && !parse_number(args[++i], 1, kWatchSecondsMax, o.watch_s))
        return Status::invalid("--watch " + args[i] + ": give seconds from 1 to a day");
    } else if (args[i].rfind("http://", 0) == 0) o.servers.push_back(args[i]);
    else return Status::invalid("'" + args[i] + "' is not known here; aurora status --help");
  }
  if (o.help) return o;
  if (o.all && o.buffer.empty())
    return Status::invalid("--all asks the brokers; give --buffer nats://HOST as the servers have");
  if (!o.all && !o.buffer.empty())
    return Status::invalid("--buffer is for --all; or give the servers' http:// addresses");
  if (!o.all && o.servers.empty())
    return Status::invalid("give the servers' http:// addresses, or --all --buffer nats://HOST");
  return o;
}

std::string api_key(const Options& options) {
  if (!options.key.empty()) return options.key;
  for (const char* name : {"AURORA_API_KEY", "LLAMA_API_KEY"})
    if (const char* key = std::getenv(name)) return key;
  return "";
}

FleetState ask_servers(const Options& options) {
  FleetState fleet;
  for (const std::string& url : options.servers) {
    FleetMember member;
    member.name = url;
    const auto metrics = ServerClient(url, api_key(options)).metrics_text();
    if (metrics) {
      member.samples = parse_metrics(*metrics);
      member.trainer_end = comment_of(*metrics, kTrainerLastExit);
    } else {
      member.silent = metrics.status().message();
    }
    fleet.members.push_back(std::move(member));
  }
  return fleet;
}

// In a terminal the newest takes the place of the one before it.
void show(const FleetState& fleet, const Options& options) {
  if (options.watch_s > 0 && ::isatty(STDOUT_FILENO) != 0) std::fputs("\x1b[H\x1b[2J", stdout);
  std::fputs((options.json ? fleet_json(fleet) : fleet_table(fleet)).c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

int status_main(int argc, char** argv) {
  const auto options = parse({argv + 1, argv + argc});
  if (!options) {
    std::fprintf(stderr, "aurora status: %s\n", options.status().message().c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  do {
    const auto fleet =
        options->all ? ask_brokers(options->buffer) : Result<FleetState>(ask_servers(*options));
    if (!fleet) {
      std::fprintf(stderr, "aurora status: %s\n", fleet.status().message().c_str());
      return 1;
    }
    show(*fleet, *options);
  } while (options->watch_s > 0 && ::sleep(static_cast<unsigned>(options->watch_s)) == 0);
  return 0;
}

}  // namespace aurora
