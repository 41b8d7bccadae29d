// What `aurora bench flywheel` has measured, and the figures made of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replay/chat_stream.h"
#include "replay/report.h"

namespace aurora {

struct Rate {
  double tokens = 0, seconds = 0;
  void add(const Rate& more);
  double per_s() const { return seconds > 0 ? tokens / seconds : 0; }
};

struct Latency {  // of streamed answers, in milliseconds
  std::vector<double> first, gaps;
  void add(const Answer& answer);
};

// The value below which that share lies; 0 of none.
double quantile(std::vector<double> values, double share);

// The same prompts asked twice, in two ways.
struct Compared {
  Rate with, without;
  std::vector<double> log_ratios;  // of each pair
  size_t texts = 0, same_texts = 0;

  void add(const Rate& one_with, const Rate& one_without);
  void add(const Compared& more);
  size_t pairs() const { return log_ratios.size(); }
  double ratio() const;        // of the sums; 0: unknown
  double ratio_error() const;  // one standard error, from how the pairs differ; 0: fewer than two
};

struct LearnWindow {
  std::string domain;
  int64_t served_tokens = 0;  // at its end
  size_t requests = 0;
  Rate speed;                       // the learning server's own requests
  double generated = 0, steps = 0;  // by its metrics; pairs without drafts taken out
  Latency latency;
  int64_t draft_version = 0;         // at its end
  int64_t swaps = 0, rollbacks = 0;  // within it
  double trainer_share = 0;          // of the time of all cores
  Compared pairs;                    // with and without drafts
  Compared frozen;                   // the learning server and a frozen draft

  double accept_len() const { return steps > 0 ? generated / steps : 0; }
};

struct ArmFigures {
  std::string name;
  int slots = 1;
  Rate speed = {};
  double tokens = 0, accepted = 0;
  Latency latency = {};
  size_t texts = 0, same_texts = 0;  // as without drafts

  double accept_len() const { return tokens > accepted ? tokens / (tokens - accepted) : 0; }
};

struct Flywheel {
  std::vector<std::pair<std::string, std::string>> settings;  // shown as they are
  bool hostile = false, sampled = false;
  std::vector<LearnWindow> windows;
  Report curve;  // of the same requests, one by one: for the plot
  std::vector<ArmFigures> arms;
  size_t failed = 0;
  std::vector<std::string> failures;  // what the first few said
  std::vector<std::string> notes;     // what was not measured, and why
  int64_t swaps = 0, rollbacks = 0;
  double wall_s = 0;
  bool interrupted = false;
};

// Fewer pairs say too little of a window for it to be called the worst.
constexpr size_t kPairsEnough = 4;

const ArmFigures* find_arm(const Flywheel& run, const std::string& name, int slots);
// Speed of the learning server over that arm's.
std::optional<double> over(const Flywheel& run, const std::string& name, int slots);
// Over the fastest of llama-server's own ways to speculate.
std::optional<double> over_stock_best(const Flywheel& run, int slots);
// The window with enough pairs whose ratio is smallest; nullptr: none has.
const LearnWindow* worst_window(const Flywheel& run);
Compared all_pairs(const Flywheel& run, Compared LearnWindow::*which);

// The keys of a result, null where this run has not measured them, and all the rest below "runs".
// `earlier`: the JSON of a run before, whose keys stand where this one's are null; "": none.
Result<std::string> flywheel_json(const Flywheel& run, const std::string& earlier);
std::string flywheel_table(const Flywheel& run);  // for a terminal
std::string flywheel_html(const Flywheel& run);   // a self-contained page

}  // namespace aurora
