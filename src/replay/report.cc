#include "replay/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "replay/text.h"

namespace aurora {
namespace {

using json = nlohmann::ordered_json;

constexpr double kMsPerSecond = 1000.0;
constexpr size_t kDomainRunsMax = 8;  // more than that is mixed traffic

double rate(double tokens, double ms) { return ms > 0 ? tokens * kMsPerSecond / ms : 0; }

double rounded(double value) {
  return static_cast<double>(static_cast<int64_t>(value * 1e4 + 0.5)) / 1e4;
}

const Totals& totals_before(const Report& report, size_t first) {
  return first == 0 ? report.start : report.samples[first - 1].totals;
}

bool is_in(const BaselinePair& pair, const Window& window) {
  return pair.after_requests > window.first && pair.after_requests <= window.last;
}

struct PlainRate {
  double tokens = 0, ms = 0;
  void add(const BaselinePair& pair) {
    tokens += pair.tokens;
    ms += pair.decode_ms;
  }
};

json window_json(const Window& window) {
  json object = {
      {"served_tokens", window.served_tokens},    {"requests", window.last - window.first},
      {"accept_len", rounded(window.accept_len)}, {"tokens_per_s", rounded(window.tokens_per_s)},
      {"draft_version", window.draft_version},    {"domain", window.domain}};
  if (window.baseline_tokens_per_s > 0) {
    object["baseline_tokens_per_s"] = rounded(window.baseline_tokens_per_s);
  }
  return object;
}

// "Early" leaves out the first requests, before the first draft; "late" is what it came to.
json domain_json(const Report& report, const Window& run) {
  constexpr size_t kEarlyFirst = 25, kEarlyLast = 75;
  json object = {{"domain", run.domain},
                 {"requests", run.last - run.first},
                 {"accept_len", rounded(run.accept_len)}};
  if (run.last - run.first >= kEarlyLast) {
    object["accept_len_requests_26_75"] =
        rounded(accept_len(report, run.first + kEarlyFirst, run.first + kEarlyLast));
  }
  const size_t late = std::max(run.first, run.last - std::min(run.last, kWindowRequests));
  object["accept_len_last_50"] = rounded(accept_len(report, late, run.last));
  return object;
}

json baseline_json(const Report& report) {
  const Baseline baseline = baseline_of(report);
  return {{"pairs", baseline.pairs},
          {"same_text", baseline.same_text},
          {"tokens_per_s", rounded(baseline.tokens_per_s)},
          {"drafted_pairs", baseline.drafted_pairs},
          {"speedup", rounded(baseline.speedup)}};
}

json samples_json(const Report& report) {
  json samples = json::array();
  for (const Sample& sample : report.samples) {
    samples.push_back({{"id", sample.id},
                       {"domain", sample.domain},
                       {"tokens", sample.tokens},
                       {"decode_ms", rounded(sample.decode_ms)},
                       {"wall_s", rounded(sample.wall_s)},
                       {"generated_tokens_total", sample.totals.generated_tokens},
                       {"target_steps_total", sample.totals.target_steps},
                       {"draft_version", sample.totals.draft_version}});
  }
  return samples;
}

}  // namespace

double accept_len(const Report& report, size_t first, size_t last) {
  CHECK(first <= last && last <= report.samples.size());
  if (first == last) return 0;
  const Totals& before = totals_before(report, first);
  const Totals& after = report.samples[last - 1].totals;
  const double steps = after.target_steps - before.target_steps;
  return steps > 0 ? (after.generated_tokens - before.generated_tokens) / steps : 0;
}

double tokens_per_s(const Report& report, size_t first, size_t last) {
  double tokens = 0, ms = 0;
  for (size_t i = first; i < last; ++i) {
    tokens += report.samples[i].tokens;
    ms += report.samples[i].decode_ms;
  }
  return rate(tokens, ms);
}

Window window_of(const Report& report, size_t first, size_t last) {
  CHECK(first < last && last <= report.samples.size());
  Window window{.first = first, .last = last, .domain = report.samples[first].domain};
  for (size_t i = first; i < last; ++i) {
    if (report.samples[i].domain != window.domain) window.domain = "mixed";
  }
  window.served_tokens = report.samples[last - 1].served_tokens;
  window.accept_len = accept_len(report, first, last);
  window.tokens_per_s = tokens_per_s(report, first, last);
  PlainRate plain;
  for (const BaselinePair& pair : report.pairs) {
    if (is_in(pair, window)) plain.add(pair);
  }
  window.baseline_tokens_per_s = rate(plain.tokens, plain.ms);
  window.draft_version = report.samples[last - 1].totals.draft_version;
  return window;
}

std::string domain_label(const std::string& domain) { return domain.empty() ? "traffic" : domain; }

std::vector<Window> windows_of(const Report& report) {
  std::vector<Window> windows;
  const size_t count = report.samples.size();
  for (size_t first = 0; first < count; first += kWindowRequests) {
    windows.push_back(window_of(report, first, std::min(count, first + kWindowRequests)));
  }
  return windows;
}

std::vector<Window> domain_runs(const Report& report) {
  std::vector<Window> runs;
  const size_t count = report.samples.size();
  for (size_t first = 0; first < count;) {
    size_t last = first + 1;
    while (last < count && report.samples[last].domain == report.samples[first].domain) ++last;
    runs.push_back(window_of(report, first, last));
    first = last;
  }
  if (runs.size() > kDomainRunsMax) return {window_of(report, 0, count)};
  return runs;
}

std::vector<SwapMark> swap_marks(const Report& report) {
  std::vector<SwapMark> marks;
  int64_t version = report.start.draft_version;
  for (size_t i = 0; i < report.samples.size(); ++i) {
    const Sample& sample = report.samples[i];
    if (sample.totals.draft_version == version) continue;
    version = sample.totals.draft_version;
    marks.push_back({i, sample.served_tokens - sample.tokens, version});
  }
  return marks;
}

int64_t swap_count(const Report& report) {
  return report.samples.empty() ? 0 : report.samples.back().totals.swaps - report.start.swaps;
}

Baseline baseline_of(const Report& report) {
  Baseline baseline{.pairs = report.pairs.size()};
  PlainRate all, drafted;
  double speculated_tokens = 0, speculated_ms = 0;
  for (const BaselinePair& pair : report.pairs) {
    all.add(pair);
    baseline.same_text += pair.same_text ? 1 : 0;
    if (!pair.drafted) continue;
    ++baseline.drafted_pairs;
    drafted.add(pair);
    speculated_tokens += pair.speculated_tokens;
    speculated_ms += pair.speculated_ms;
  }
  baseline.tokens_per_s = rate(all.tokens, all.ms);
  const double plain = rate(drafted.tokens, drafted.ms);
  baseline.speedup = plain > 0 ? rate(speculated_tokens, speculated_ms) / plain : 0;
  return baseline;
}

std::string report_json(const Report& report) {
  json object = {{"failed", report.failed},
                 {"swaps", swap_count(report)},
                 {"requests", report.samples.size()},
                 {"wall_s", rounded(report.wall_s)},
                 {"accept_source", report.accept_source}};
  json& windows = object["windows"] = json::array();
  for (const Window& window : windows_of(report)) windows.push_back(window_json(window));
  json& domains = object["domains"] = json::array();
  for (const Window& run : domain_runs(report)) domains.push_back(domain_json(report, run));
  json& marks = object["swap_marks"] = json::array();
  for (const SwapMark& mark : swap_marks(report)) {
    marks.push_back({{"request", mark.request + 1},
                     {"served_tokens", mark.served_tokens},
                     {"draft_version", mark.version}});
  }
  object["baseline"] = baseline_json(report);
  object["failures"] = report.failures;
  json& settings = object["settings"] = json::object();
  for (const auto& [name, value] : report.settings) settings[name] = value;
  object["metrics"] = report.metrics;
  object["samples"] = samples_json(report);
  return object.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string report_summary(const Report& report) {
  const size_t count = report.samples.size();
  std::string text = printed("\n  requests      %zu served, %zu failed, in %.0f s\n", count,
                             report.failed, report.wall_s);
  for (const std::string& failure : report.failures) text += "                " + failure + "\n";
  if (count == 0) return text;
  text += printed("  draft         version %lld, %lld swaps\n",
                  static_cast<long long>(report.samples.back().totals.draft_version),
                  static_cast<long long>(swap_count(report)));
  for (const Window& run : domain_runs(report)) {
    const size_t span = std::min(kWindowRequests, run.last - run.first);
    text += printed(
        "  accept length %.2f over the first %zu requests of %s, %.2f over the last %zu\n",
        accept_len(report, run.first, run.first + span), span, domain_label(run.domain).c_str(),
        accept_len(report, run.last - span, run.last), span);
  }
  text += printed("  tokens/s      %.1f\n", tokens_per_s(report, 0, count));
  const Baseline baseline = baseline_of(report);
  if (baseline.pairs > 0) {
    text += printed(
        "  baseline      %zu of these prompts again without a draft: %.1f tokens/s, the same text "
        "in %zu\n",
        baseline.pairs, baseline.tokens_per_s, baseline.same_text);
  }
  if (baseline.drafted_pairs > 0) {
    text +=
        printed("  speed         %.2f of that without a draft, over the %zu pairs that had one\n",
                baseline.speedup, baseline.drafted_pairs);
  }
  return text;
}

}  // namespace aurora
