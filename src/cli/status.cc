// `aurora status`: what servers and trainers say of themselves, a line each.
#include "cli/status.h"

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "cli/api_key.h"
#include "cli/commands.h"
#include "cli/status_options.h"
#include "metrics/parse.h"
#include "replay/http_client.h"

namespace aurora {
namespace {

FleetState ask_servers(const StatusOptions& options) {
  FleetState fleet;
  for (const std::string& url : options.servers) {
    FleetMember member;
    member.name = url;
    const auto metrics = ServerClient(url, api_key(options.key)).metrics_text();
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
void show(const FleetState& fleet, const StatusOptions& options) {
  if (options.watch_s > 0 && ::isatty(STDOUT_FILENO) != 0) std::fputs("\x1b[H\x1b[2J", stdout);
  std::fputs((options.json ? fleet_json(fleet) : fleet_table(fleet)).c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

int status_main(const Words& args) {
  const auto options = parse_status_options(args);
  if (!options) return refuse("aurora status", options.status());
  if (options->help) return print_help(status_command);
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
