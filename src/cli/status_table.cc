#include <algorithm>
#include <cmath>

#include "base/json_text.h"
#include "cli/status.h"
#include "replay/text.h"

namespace aurora {
namespace {

// One line of the answer. A figure that a member does not have is NaN.
struct Row {
  std::string name;
  bool trainer = false;
  std::string silent, trainer_end;
  double age_s, version, accept_len, written, dropped, waiting, lag, rows_per_s;
  double restarts, exit_code;  // of a server's trainer
};

double sample(const FleetMember& member, const std::string& name) {
  const auto found = member.samples.find(name);
  return found == member.samples.end() ? NAN : found->second;
}

// Over all labels of a family.
double sum(const FleetMember& member, const std::string& family) {
  double total = NAN;
  for (const auto& [name, value] : member.samples) {
    if (name.rfind(family + "{", 0) == 0) total = std::isnan(total) ? value : total + value;
  }
  return total;
}

Row row_of(const FleetMember& member) {
  const double steps = sample(member, "aurora:target_steps_total");
  Row row;
  row.name = member.name;
  row.silent = member.silent;
  row.trainer_end = member.trainer_end;
  row.trainer = member.samples.count("aurora:trainer_updated_ms") > 0;
  row.age_s = member.age_s;
  row.version = sample(member, "aurora:draft_version");
  row.accept_len = steps > 0 ? sample(member, "aurora:generated_tokens_total") / steps : NAN;
  row.written = sample(member, "aurora:traces_written_total");
  row.dropped = sum(member, "aurora:traces_dropped_total");
  row.waiting = sample(member, "aurora:trace_queue_depth");
  // A server shows a trainer's figures beside its own only where the trainer lives.
  const bool trains = row.trainer || sample(member, "aurora:trainer_alive") > 0;
  row.lag = trains ? sample(member, "aurora:trainer_lag_records") : NAN;
  row.rows_per_s = trains ? sample(member, "aurora:trainer_rows_per_second") : NAN;
  row.restarts = sample(member, "aurora:trainer_restarts_total");
  row.exit_code = row.restarts > 0 ? sample(member, "aurora:trainer_last_exit_code") : NAN;
  return row;
}

std::vector<Row> rows_of(const FleetState& fleet) {
  std::vector<Row> rows;
  for (const FleetMember& member : fleet.members) rows.push_back(row_of(member));
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.trainer != b.trainer ? a.trainer : a.name < b.name;
  });
  return rows;
}

std::string cell(double value, int decimals) {
  return std::isnan(value) ? "-" : printed("%.*f", decimals, value);
}

std::string json_field(const char* name, double value) {
  return printed(", \"%s\": %s", name, json_number(value).c_str());
}

}  // namespace

std::string fleet_table(const FleetState& fleet) {
  std::string out = printed("%-32s %-8s %7s %7s %9s %8s %7s %8s %7s %6s\n", "name", "role", "draft",
                            "accept", "traces", "dropped", "queue", "lag", "rows/s", "age");
  for (const Row& row : rows_of(fleet)) {
    if (!row.silent.empty()) {
      out += printed("%-32s %s\n", row.name.c_str(), row.silent.c_str());
      continue;
    }
    out += printed("%-32s %-8s %7s %7s %9s %8s %7s %8s %7s %5.0fs\n", row.name.c_str(),
                   row.trainer ? "trainer" : "server", cell(row.version, 0).c_str(),
                   cell(row.accept_len, 2).c_str(), cell(row.written, 0).c_str(),
                   cell(row.dropped, 0).c_str(), cell(row.waiting, 0).c_str(),
                   cell(row.lag, 0).c_str(), cell(row.rows_per_s, 0).c_str(), row.age_s);
    if (row.restarts > 0)
      out += printed("%-32s its trainer has ended %.0f times, the last time with exit code %.0f\n",
                     "", row.restarts, row.exit_code);
    if (!row.trainer_end.empty()) out += printed("%-32s %s\n", "", row.trainer_end.c_str());
  }
  if (fleet.traces) {
    out += printed("traces on the brokers: %llu records, %.1f MiB\n",
                   static_cast<unsigned long long>(fleet.traces->records),
                   static_cast<double>(fleet.traces->bytes) / (1 << 20));
  }
  return out;
}

std::string fleet_json(const FleetState& fleet) {
  std::string out = "{\"members\": [";
  const char* between = "";
  for (const Row& row : rows_of(fleet)) {
    out += printed("%s{\"name\": %s, \"role\": \"%s\"", between, json_quoted(row.name).c_str(),
                   row.trainer ? "trainer" : "server");
    if (!row.silent.empty()) out += ", \"silent\": " + json_quoted(row.silent);
    out += json_field("age_s", row.age_s) + json_field("draft_version", row.version) +
           json_field("accept_len", row.accept_len) + json_field("traces_written", row.written) +
           json_field("traces_dropped", row.dropped) + json_field("traces_waiting", row.waiting) +
           json_field("lag_records", row.lag) + json_field("rows_per_s", row.rows_per_s) +
           json_field("trainer_restarts", row.restarts) +
           json_field("trainer_last_exit_code", row.exit_code);
    if (!row.trainer_end.empty()) out += ", \"trainer_last_exit\": " + json_quoted(row.trainer_end);
    out += "}";
    between = ", ";
  }
  out += "]";
  if (fleet.traces) {
    out += printed(", \"traces\": {\"records\": %llu, \"bytes\": %llu}",
                   static_cast<unsigned long long>(fleet.traces->records),
                   static_cast<unsigned long long>(fleet.traces->bytes));
  }
  return out + "}\n";
}

}  // namespace aurora
