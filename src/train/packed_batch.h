// Several requests packed without padding, as plain arrays, for one forward of the draft. Alignment
// (docs/architecture.md): row t holds tap a_t; the draft's column t embeds x_{t+1+k} at step k and
// predicts x_{t+2+k}, whose law is p_{t+1+k}. Branches (branches.h) are further columns behind
// those of all accepted paths: a node sees the rows before its fork, its ancestors and itself.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "train/branches.h"
#include "train/learner.h"

namespace aurora {

struct PackedRequest {
  int row0 = 0;         // first of its rows
  int rows = 0;         // columns t = start ... L-2; column L-1 is seen by nobody
  int embed0 = 0;       // first of its embeddings x_{start+1} ... x_L (rows + 1 of them)
  int query0 = 0;       // first of its supervised columns
  int queries = 0;      // C - 1 + prompt rows, the last `queries` of its rows
  int prompt_rows = 0;  // supervised rows before P - 1
  int start = 0;        // its first row among the record's
  int position0 = 0;    // RoPE position of that row
  int node0 = 0;        // first of its branch nodes
  int nodes = 0;
};

struct PackedBatch {
  int hidden = 0;
  int steps = 0;
  int law_k = 0;
  std::vector<PackedRequest> requests;
  int rows = 0, embeds_count = 0, laws = 0;
  int queries = 0;  // supervised columns: of all accepted paths, and behind them ...
  int nodes = 0;    // ... so many branch nodes
  int path_queries() const { return queries - nodes; }
  std::vector<float> taps;         // [rows + nodes, 3D] of a node: its parent's, a_t at the fork
  std::vector<float> embeds;       // [embeds_count, D] token embeddings
  std::vector<int64_t> row_embed;  // [rows] embedding of step 0
  std::vector<int64_t> query_row;  // [queries] into taps and position
  std::vector<int64_t>
      query_embed;  // [steps, queries]; clamped where nothing is left (such rows do not count)
  std::vector<float> position;     // [rows + nodes]
  std::vector<int64_t> query_law;  // [steps, queries] row of the law tables below, -1: past the end
  std::vector<int64_t> node_parent;    // [nodes] an earlier node, -1: forks off the path
  std::vector<int64_t> node_prefix;    // [nodes] leading rows of its request that it sees
  std::vector<int32_t> law_ids;        // [laws, law_k] index in the DRAFT vocabulary, -1: outside
  std::vector<float> law_probs;        // [laws, law_k] p under the full softmax, 0 where outside
  std::vector<float> law_mass;         // [laws] their sum: a row of mass 0 does not count
  std::vector<float> law_rest;         // [laws] what the record's top k leave to all other tokens
  std::vector<uint8_t> law_of_prompt;  // [laws] 1: of a prompt token, which is all that is known
  std::vector<int32_t> served;  // [laws] draft index of the served token, -1: outside, or none
};

// Target id -> draft index.
using DraftIndex = std::unordered_map<int64_t, int32_t>;
DraftIndex index_vocab(const std::vector<int64_t>& d2t);

struct PackOptions {
  int steps = 1;
  int context_rows_max = 1024;  // rows kept before the first supervised one
  // Rows before the first supervised one that are supervised too, the last of them at P - 2. Their
  // label is the next prompt token: a law that gives it all.
  int prompt_rows_max = 0;
  // The branches of a record: any trees over its refused rows. Unset: none. At step k > 0 a node's
  // column follows the first child; its other children are learnt from their own columns.
  std::function<BranchList(const TraceRecord&)> branches = nullptr;
};

// Records of fewer than two served tokens give no column and are left out. invalid: another hidden
// size.
Result<PackedBatch> pack(RecordRefs records, const DraftIndex& vocab, const TargetRows& rows,
                         const PackOptions& options);

float half_to_float(uint16_t bits);

}  // namespace aurora
