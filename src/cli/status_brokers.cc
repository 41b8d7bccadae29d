// The side of `aurora status --all` that asks NATS.
#include "cli/status.h"
#include "metrics/parse.h"
#include "nats/nats_url.h"
#include "registry/draft_exchange.h"
#include "trace/jetstream_names.h"

namespace aurora {
namespace {
constexpr int64_t kWaitMs = 5000;
}  // namespace

Result<FleetState> ask_brokers(const std::string& buffer_url) {
  const auto url = parse_nats_url(buffer_url);
  if (!url) return url.status();
  const auto connection = NatsConnection::open(*url, "aurora status");
  if (!connection) return connection.status();
  if (Status s = (*connection)->wait_connected(kWaitMs); !s) return s;
  DraftExchange exchange(**connection, "");
  const auto figures = exchange.figures();
  FleetState fleet;
  if (!figures && figures.status().code() != StatusCode::kNotFound) return figures.status();
  for (const MemberFigures& one : figures ? *figures : std::vector<MemberFigures>()) {
    fleet.members.push_back({one.name, "", static_cast<double>(one.age_ms) / 1000,
                             parse_metrics(one.text), comment_of(one.text, kTrainerLastExit)});
  }
  const auto stored =
      stream_state(**connection, traces_stream(url->prefix), record_subject(url->prefix));
  if (stored) fleet.traces = StoredTraces{stored->messages, stored->bytes};
  else if (stored.status().code() != StatusCode::kNotFound) return stored.status();
  return fleet;
}

}  // namespace aurora
