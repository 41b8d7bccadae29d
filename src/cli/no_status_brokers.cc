// In place of status_brokers.cc in a build without a NATS library.
#include "cli/status.h"

namespace aurora {

Result<FleetState> ask_brokers(const std::string&) {
  return Status::invalid(
      "this build has no NATS client: install libnats-dev and build again, or give the servers' "
      "http:// addresses");
}

}  // namespace aurora
