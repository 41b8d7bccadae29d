// Refused tokens as training rows. Where t is the last accepted row of a verify step and r its
// first refused token, the branch begins with the pair (a_t, r) at RoPE t: a sibling of (a_t,
// x_{t+1}). m refused tokens give m such pairs, at positions t ... t+m-1. No LibTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "train/learner.h"

namespace aurora {

// One refused token in the tree of its request. Its own tap is what its children's pairs start
// from; its law is the label of its own pair.
struct BranchNode {
  int parent = -1;  // an earlier node of the same list; -1: forks off the accepted path
  int refused = 0;  // index into TraceRecord::refused
};
using BranchList = std::vector<BranchNode>;  // parents before their children

// One chain for each verify step, from drafts of version_min or newer.
BranchList branch_nodes(const TraceRecord& record, int64_t version_min);

// Highest draft version among the verify steps; 0: none.
int64_t newest_draft_version(RecordRefs records);

}  // namespace aurora
