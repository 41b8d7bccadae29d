#include "train/branches.h"

#include <algorithm>

namespace aurora {

BranchList branch_nodes(const TraceRecord& record, int64_t version_min) {
  BranchList nodes;
  int step = -1;  // of the node before
  for (size_t i = 0; i < record.refused.size(); ++i) {
    const RefusedRow& row = record.refused[i];
    if (record.steps[static_cast<size_t>(row.step)].draft_version < version_min) continue;
    const bool begins_branch = row.step != step;
    step = row.step;
    const int before = static_cast<int>(nodes.size()) - 1;
    nodes.push_back({begins_branch ? -1 : before, static_cast<int>(i)});
  }
  return nodes;
}

int64_t newest_draft_version(RecordRefs records) {
  int64_t newest = 0;
  for (const TraceRecord* record : records)
    for (const VerifyStep& step : record->steps) newest = std::max(newest, step.draft_version);
  return newest;
}

}  // namespace aurora
