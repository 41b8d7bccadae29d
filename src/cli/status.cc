// `aurora status`: what servers and trainers say of themselves, a line each.
#include "cli/status.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/http_client.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

constexpr const char* kUsage =
    "usage: aurora status http://HOST:PORT [http://...]       these servers, by their /metrics\n"
    "       aurora status --all --buffer nats://HOST[/?...]   all servers and the trainer that "
    "report to these brokers\n"
    "       --json   one JSON object instead of a table\n"
    "A server's API key: AURORA_API_KEY or LLAMA_API_KEY in the environment.\n";

struct Options {
  bool all = false, json = false, help = false;
  std::string buffer;
  std::vector<std::string> servers;
};

Result<Options> parse(const std::vector<std::string>& args) {
  Options o;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--all") o.all = true;
    else if (args[i] == "--json") o.json = true;
    else if (args[i] == "--help" || args[i] == "-h") o.help = true;
    else if (args[i] == "--buffer" && i + 1 < args.size()) o.buffer = args[++i];
    else if (args[i].rfind("http://", 0) == 0) o.servers.push_back(args[i]);
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

std::string api_key() {
  for (const char* name : {"AURORA_API_KEY", "LLAMA_API_KEY"})
    if (const char* key = std::getenv(name)) return key;
  return "";
}

FleetState ask_servers(const std::vector<std::string>& urls) {
  FleetState fleet;
  for (const std::string& url : urls) {
    FleetMember member;
    member.name = url;
    const auto metrics = ServerClient(url, api_key()).metrics_text();
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
  const auto fleet = options->all ? ask_brokers(options->buffer)
                                  : Result<FleetState>(ask_servers(options->servers));
  if (!fleet) {
    std::fprintf(stderr, "aurora status: %s\n", fleet.status().message().c_str());
    return 1;
  }
  std::fputs((options->json ? fleet_json(*fleet) : fleet_table(*fleet)).c_str(), stdout);
  return 0;
}

}  // namespace aurora
