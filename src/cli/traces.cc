// `aurora traces stats`: what a trace buffer holds, beside a server or without one.
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/api_key.h"
#include "cli/commands.h"
#include "cli/dispatch.h"
#include "cli/drafts_options.h"
#include "cli/traces_options.h"
#include "metrics/parse.h"
#include "replay/http_client.h"
#include "replay/text.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

struct Figures {
  TraceBufferStats stats;
  int64_t oldest_ms = 0, newest_ms = 0;   // unix time, 0: there is none
  std::map<std::string, double> dropped;  // by cause, of the server that was asked
  bool asked = false;
};

Result<std::unique_ptr<TraceBuffer>> open(const TracesOptions& options) {
  TraceBufferOptions buffer;
  buffer.role = TraceBufferOptions::Role::kReader;
  if (options.buffer.empty()) {
    const auto state = state_of(options.model, options.state);
    if (!state) return state.status();
    buffer.dir = *state + "/traces";
    if (!std::filesystem::is_directory(buffer.dir))
      return Status::not_found("nothing has been recorded in " + *state);
  }
  return open_trace_buffer(options.buffer, buffer);
}

// When the first record behind `after` was made; 0: there is none.
Result<int64_t> made_after(TraceBuffer& buffer, uint64_t after) {
  const auto found = buffer.read(after, 1, kRecordBytesMax);
  if (!found) return found.status();
  return found->empty() ? 0 : found->front().record.created_ms;
}

// aurora:traces_dropped_total{cause="queue_full"} 3
Status ask_server(const TracesOptions& options, Figures& figures) {
  constexpr std::string_view kBefore = "aurora:traces_dropped_total{cause=\"";
  if (options.url.empty()) return Status::ok();
  const auto text = ServerClient(options.url, api_key(options.key)).metrics_text();
  if (!text) return text.status();
  for (const auto& [name, value] : parse_metrics(*text))
    if (name.starts_with(kBefore) && value > 0)
      figures
          .dropped[name.substr(kBefore.size(), name.find('"', kBefore.size()) - kBefore.size())] =
          value;
  figures.asked = true;
  return Status::ok();
}

Result<Figures> look(const TracesOptions& options) {
  const auto buffer = open(options);
  if (!buffer) return buffer.status();
  Figures figures;
  const auto stats = (*buffer)->stats();
  if (!stats) return stats.status();
  figures.stats = *stats;
  if (stats->records > 0) {
    const auto oldest = made_after(**buffer, 0);
    if (!oldest) return oldest.status();
    const auto newest = made_after(**buffer, stats->last_sequence - 1);
    if (!newest) return newest.status();
    figures.oldest_ms = *oldest;
    figures.newest_ms = *newest;
  }
  if (Status s = ask_server(options, figures); !s) return s;
  return figures;
}

std::string age(int64_t since_ms) {
  if (since_ms == 0) return "-";
  const double hours = static_cast<double>(unix_ms() - since_ms) / 3.6e6;
  return hours < 48 ? printed("%.1f hours", hours) : printed("%.1f days", hours / 24);
}

std::string table(const Figures& f) {
  std::string out = printed("records  %s\nMiB      %.1f\noldest   %s\nnewest   %s\n",
                            grouped(static_cast<int64_t>(f.stats.records)).c_str(),
                            static_cast<double>(f.stats.bytes) / (1 << 20),
                            age(f.oldest_ms).c_str(), age(f.newest_ms).c_str());
  if (!f.asked) return out;
  out += "dropped  " + std::string(f.dropped.empty() ? "0\n" : "\n");
  for (const auto& [cause, count] : f.dropped)
    out += printed("  %-14s %s\n", cause.c_str(), grouped(static_cast<int64_t>(count)).c_str());
  return out;
}

std::string json(const Figures& f) {
  nlohmann::ordered_json out = {{"records", f.stats.records},
                                {"bytes", f.stats.bytes},
                                {"first_sequence", f.stats.first_sequence},
                                {"last_sequence", f.stats.last_sequence},
                                {"oldest_ms", f.oldest_ms},
                                {"newest_ms", f.newest_ms}};
  if (f.asked) out["dropped"] = f.dropped;
  return out.dump(1) + "\n";
}

int stats_main(const Words& args) {
  const auto options = parse_traces_options(args);
  if (!options) return refuse("aurora traces", options.status());
  if (options->help) return print_help(traces_stats_command);
  const auto figures = look(*options);
  if (!figures) {
    refuse("aurora traces", figures.status());
    return 1;
  }
  std::fputs((options->json ? json(*figures) : table(*figures)).c_str(), stdout);
  return 0;
}

}  // namespace

int traces_main(const Words& args) {
  static constexpr Command kCommands[] = {
      {"stats", stats_main, "records, bytes, age, and what a server dropped, by cause"},
  };
  return dispatch("aurora traces", kCommands, args);
}

}  // namespace aurora
