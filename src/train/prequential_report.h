// The figures of a prequential run, made as the stream goes by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/gate.h"
#include "train/prequential.h"

namespace aurora {

// `options` outlives it. One thread.
class PrequentialReport {
 public:
  explicit PrequentialReport(const PrequentialOptions& options);

  // One entry of leads a record; of frozen, too, or none at all.
  void add_group(const std::vector<const TraceRecord*>& records, const std::vector<Leads>& leads,
                 const std::vector<Leads>& frozen);
  // Whether add_group ends a window with so many requests. If so, set_seen() before it gives what
  // the same draft does on requests it was trained on.
  bool ends_window(size_t requests) const;
  void set_seen(const std::vector<const TraceRecord*>& records, const std::vector<Leads>& leads);
  void skip(int64_t tokens) { tokens_ += tokens; }  // served tokens that are not scored

  int64_t tokens() const { return tokens_; }
  int windows() const { return requests_ / options_.window_requests; }  // that have ended
  double last() const { return last_; }  // accept length of the last window, at the first depth

  // To options.json: format in prequential.h.
  Status write(const TrainFigures& figures, double seconds, bool done) const;

 private:
  void end_window();

  using ByDepth = std::vector<ReplayScore>;
  struct Scores {
    ByDepth served, frozen;
  };
  ByDepth walks(const TraceRecord& record, const Leads& leads) const;

  const PrequentialOptions& options_;
  const Scores none_;
  Scores window_, all_;
  ByDepth seen_;  // empty: not asked for
  std::string windows_, domain_;
  int64_t tokens_ = 0;
  int requests_ = 0;
  double last_ = 1.0;
};

}  // namespace aurora
