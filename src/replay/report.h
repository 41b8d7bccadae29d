// What a replay saw, and the figures made of it. Accept length is generated tokens / target steps,
// over all steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace aurora {

// Running totals of the server, read just after a request ended; baseline requests taken out.
struct Totals {
  double generated_tokens = 0;
  double target_steps = 0;
  int64_t draft_version = 0;
  int64_t swaps = 0;
};

struct Sample {  // one served request
  std::string id;
  std::string domain;
  int tokens = 0;
  double decode_ms = 0;
  double wall_s = 0;          // since the start of the replay
  int64_t served_tokens = 0;  // of this and all requests before it
  Totals totals;
};

// The same prompt again without a draft, right after it had been served with one.
struct BaselinePair {
  std::string id;
  size_t after_requests = 0;  // how many had been served before it
  int tokens = 0;
  double decode_ms = 0;
  int speculated_tokens = 0;
  double speculated_ms = 0;
  bool same_text = false;
  bool drafted = false;  // a draft was in service when it was served first
};

struct Report {
  std::vector<std::pair<std::string, std::string>> settings;  // shown as they are
  std::string accept_source;  // "metrics", or "timings" where the server has no aurora:* figures
  Totals start;
  std::vector<Sample> samples;  // in the order in which they were served
  std::vector<BaselinePair> pairs;
  size_t failed = 0;
  std::vector<std::string> failures;  // what the first few said
  double wall_s = 0;
  std::map<std::string, double> metrics;  // aurora:* at the end
};

constexpr size_t kWindowRequests = 50;

struct Window {  // samples [first, last)
  size_t first = 0;
  size_t last = 0;
  std::string domain;  // "mixed" where it holds several
  int64_t served_tokens = 0;
  double accept_len = 0;  // 0 where nothing was generated
  double tokens_per_s = 0;
  double baseline_tokens_per_s = 0;  // 0 where no pair fell into it
  int64_t draft_version = 0;         // at its end
};

struct SwapMark {
  size_t request = 0;  // index of the first sample that saw it
  int64_t served_tokens = 0;
  int64_t version = 0;
};

// Averages of the pairs. The ratio counts those alone that were served with a draft.
struct Baseline {
  size_t pairs = 0;
  size_t same_text = 0;
  double tokens_per_s = 0;  // without a draft, all pairs
  size_t drafted_pairs = 0;
  double speedup = 0;  // tokens a second with a draft over those without; 0 without drafted pairs
};

double accept_len(const Report& report, size_t first, size_t last);
double tokens_per_s(const Report& report, size_t first, size_t last);
Window window_of(const Report& report, size_t first, size_t last);
std::vector<Window> windows_of(const Report& report);
std::vector<SwapMark> swap_marks(const Report& report);
int64_t swap_count(const Report& report);
Baseline baseline_of(const Report& report);

std::string domain_label(const std::string& domain);  // "traffic" where the lines name none

// Runs of one domain; one run called "mixed" where domains alternate.
std::vector<Window> domain_runs(const Report& report);

std::string report_json(const Report& report);
std::string report_summary(const Report& report);  // a dozen lines for a terminal

}  // namespace aurora
