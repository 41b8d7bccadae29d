// Scores records by a draft, and what learner and scorer share. Private to src/train (LibTorch).
#pragma once

#include <exception>
#include <string>
#include <vector>

#include "train/eagle3.h"
#include "train/learner.h"
#include "train/packed_batch.h"

namespace aurora {

// The seam where LibTorch's exceptions end.
template <typename F>
auto guarded(const char* what, F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::exception& e) {
    std::string message = e.what();
    return Status::internal(std::string(what) + ": " + message.substr(0, message.find('\n')));
  }
}

Status check_records(RecordRefs records, const DraftShape& shape);

// As Scorer::leads, of this draft.
Result<std::vector<Leads>> score(const Eagle3& draft, const DraftIndex& vocab,
                                 const TargetRows& rows, RecordRefs records,
                                 const LearnOptions& options, int depth);

}  // namespace aurora
