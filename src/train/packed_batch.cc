#include "train/packed_batch.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace aurora {
namespace {

// Rows first ... first + rows - 1 of an array of taps.
void add_taps(const std::vector<uint16_t>& taps, int first, int rows, PackedBatch& batch) {
  const size_t width = static_cast<size_t>(3) * static_cast<size_t>(batch.hidden);
  const size_t begin = static_cast<size_t>(first) * width;
  const size_t count = static_cast<size_t>(rows) * width;
  const size_t at = batch.taps.size();
  batch.taps.resize(at + count);
  for (size_t i = 0; i < count; ++i) batch.taps[at + i] = half_to_float(taps[begin + i]);
}

int32_t find_token(const DraftIndex& vocab, int64_t id) {
  const auto it = vocab.find(id);
  return it == vocab.end() ? -1 : it->second;
}

// One row of the law tables; served: draft index, -1: outside, or nobody knows.
void add_law(const LawRows& laws, int row, int32_t served, const DraftIndex& vocab,
             PackedBatch& batch) {
  float mass = 0, named = 0;
  for (int j = 0; j < batch.law_k; ++j) {
    const size_t at =
        static_cast<size_t>(row) * static_cast<size_t>(laws.k) + static_cast<size_t>(j);
    const float p = j < laws.k ? std::exp(laws.logprobs[at]) : 0.0f;
    const int32_t id = j < laws.k ? find_token(vocab, laws.ids[at]) : -1;
    batch.law_ids.push_back(id);
    batch.law_probs.push_back(id < 0 ? 0.0f : p);
    mass += batch.law_probs.back();
    named += p;
  }
  batch.law_mass.push_back(mass);
  batch.law_rest.push_back(std::max(0.0f, 1.0f - named));
  batch.law_of_prompt.push_back(0);
  batch.served.push_back(served);
}

// The law of a prompt token: itself.
void add_prompt_law(int32_t token, const DraftIndex& vocab, PackedBatch& batch) {
  const int32_t id = find_token(vocab, token);
  batch.law_ids.push_back(id);
  batch.law_probs.push_back(id < 0 ? 0.0f : 1.0f);
  batch.law_ids.resize(batch.law_ids.size() + static_cast<size_t>(batch.law_k - 1), -1);
  batch.law_probs.resize(batch.law_ids.size(), 0.0f);
  batch.law_mass.push_back(id < 0 ? 0.0f : 1.0f);
  batch.law_rest.push_back(0.0f);
  batch.law_of_prompt.push_back(1);
  batch.served.push_back(id);
}

void add_laws(const TraceRecord& record, const PackedRequest& request, const DraftIndex& vocab,
              PackedBatch& batch) {
  for (int i = record.prompt_tokens - request.prompt_rows; i < record.prompt_tokens; ++i)
    add_prompt_law(record.tokens[static_cast<size_t>(i)], vocab, batch);
  for (int i = 0; i < record.served_tokens(); ++i) {
    const auto token = static_cast<size_t>(record.prompt_tokens + i);
    add_law(record.laws, i, find_token(vocab, record.tokens[token]), vocab, batch);
  }
}

// Index arrays of one request. Query i is column t = P-1-prompt_rows+i; its step-k label is token
// t+2+k, and the request's laws begin with that of token P-prompt_rows.
void add_columns(const TraceRecord& record, const PackedRequest& request, PackedBatch& batch) {
  for (int j = 0; j < request.rows; ++j) {
    batch.row_embed.push_back(request.embed0 + j);
    batch.position.push_back(static_cast<float>(request.position0 + j));
  }
  const int first = request.rows - request.queries;
  for (int i = 0; i < request.queries; ++i) batch.query_row.push_back(request.row0 + first + i);
  const int law0 = batch.laws;
  const int laws = request.prompt_rows + record.served_tokens();
  batch.laws += laws;
  for (int k = 0; k < batch.steps; ++k) {
    for (int i = 0; i < request.queries; ++i) {
      const size_t at = static_cast<size_t>(k) * static_cast<size_t>(batch.queries) +
                        static_cast<size_t>(request.query0 + i);
      batch.query_embed[at] = request.embed0 + std::min(first + i + k, request.rows);
      batch.query_law[at] = i + 1 + k < laws ? law0 + i + 1 + k : -1;
    }
  }
}

// Taps, positions, labels and tree of one request's branches. The token of node i is embedding
// batch.embeds_count - batch.nodes + i, its label law row batch.laws when the node is added.
void add_nodes(const TraceRecord& record, const PackedRequest& request, const BranchList& nodes,
               PackedBatch& batch) {
  const int64_t law0 = batch.laws, node0 = request.node0;
  const int64_t embed0 = batch.embeds_count - batch.nodes + node0;
  std::vector<int64_t> next(nodes.size(), -1);  // first child
  for (size_t i = 0; i < nodes.size(); ++i) {
    const int parent = nodes[i].parent;
    const RefusedRow& row = record.refused[static_cast<size_t>(nodes[i].refused)];
    CHECK(parent < static_cast<int>(i));
    const int t = row.position - 1;  // of the row whose tap the pair starts from
    if (parent < 0) {
      CHECK(t >= request.start && t - request.start <= request.rows);
      add_taps(record.taps, t, 1, batch);
      batch.node_prefix.push_back(t - request.start);
    } else {
      const auto p = static_cast<size_t>(parent);
      add_taps(record.refused_taps, nodes[p].refused, 1, batch);
      batch.node_prefix.push_back(batch.node_prefix[static_cast<size_t>(node0) + p]);
      if (next[p] < 0) next[p] = static_cast<int64_t>(i);
    }
    batch.node_parent.push_back(parent < 0 ? -1 : node0 + parent);
    batch.query_row.push_back(batch.rows + node0 + static_cast<int64_t>(i));
    batch.position.push_back(static_cast<float>(record.cut_before + t));
    ++batch.laws;
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    auto at = static_cast<size_t>(batch.path_queries() + node0) + i;
    auto node = static_cast<int64_t>(i), last = node;
    for (int k = 0; k < batch.steps; ++k, at += static_cast<size_t>(batch.queries)) {
      if (node >= 0) last = node;
      batch.query_embed[at] = embed0 + last;
      batch.query_law[at] = node < 0 ? -1 : law0 + node;
      if (node >= 0) node = next[static_cast<size_t>(node)];
    }
  }
}

// A record that is packed, and where.
struct Used {
  const TraceRecord* record;
  BranchList nodes;
};

// Counts and places of everything, in batch; no array is filled.
Result<std::vector<Used>> lay_out(RecordRefs records, const PackOptions& options,
                                  PackedBatch& batch) {
  std::vector<Used> used;
  for (const TraceRecord* record : records) {
    if (record->served_tokens() < 2) continue;
    if (batch.hidden == 0) batch.hidden = record->hidden;
    if (record->hidden != batch.hidden)
      return Status::invalid("records of different hidden sizes in one batch");
    const int start = std::max(0, record->prompt_tokens - 1 - options.context_rows_max);
    Used next = {record, options.branches ? options.branches(*record) : BranchList{}};
    PackedRequest request;
    request.row0 = batch.rows;
    request.rows = record->rows() - 1 - start;
    request.embed0 = batch.embeds_count;
    request.query0 = batch.queries;
    if (!record->mid_answer)
      request.prompt_rows =
          std::clamp(record->prompt_tokens - 1 - start, 0, options.prompt_rows_max);
    request.queries = record->served_tokens() - 1 + request.prompt_rows;
    request.start = start;
    request.position0 = record->cut_before + start;
    request.node0 = batch.nodes;
    request.nodes = static_cast<int>(next.nodes.size());
    batch.rows += request.rows;
    batch.embeds_count += request.rows + 1;
    batch.queries += request.queries;
    batch.nodes += request.nodes;
    batch.law_k = std::max(batch.law_k, record->laws.k);
    if (request.nodes > 0) batch.law_k = std::max(batch.law_k, record->refused_laws.k);
    batch.requests.push_back(request);
    used.push_back(std::move(next));
  }
  batch.queries += batch.nodes;
  batch.embeds_count += batch.nodes;
  return used;
}

}  // namespace

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t high = exponent == 31 ? 0x7F800000u : (exponent + 112u) << 23;
  return std::bit_cast<float>(sign | high | (mantissa << 13));
}

DraftIndex index_vocab(const std::vector<int64_t>& d2t) {
  DraftIndex index;
  index.reserve(d2t.size());
  for (size_t i = 0; i < d2t.size(); ++i) index.emplace(d2t[i], static_cast<int32_t>(i));
  return index;
}

Result<PackedBatch> pack(RecordRefs records, const DraftIndex& vocab, const TargetRows& rows,
                         const PackOptions& options) {
  PackedBatch batch;
  batch.steps = options.steps;
  auto used = lay_out(records, options, batch);
  if (!used) return used.status();
  batch.query_embed.resize(static_cast<size_t>(batch.steps) * static_cast<size_t>(batch.queries));
  batch.query_law.resize(batch.query_embed.size());
  std::vector<int32_t> tokens;
  for (size_t r = 0; r < used->size(); ++r) {
    const TraceRecord& record = *(*used)[r].record;
    const PackedRequest& request = batch.requests[r];
    add_taps(record.taps, request.start, request.rows, batch);
    add_columns(record, request, batch);
    add_laws(record, request, vocab, batch);
    tokens.insert(tokens.end(), record.tokens.begin() + request.start + 1, record.tokens.end());
  }
  for (size_t r = 0; r < used->size(); ++r) {
    const TraceRecord& record = *(*used)[r].record;
    add_nodes(record, batch.requests[r], (*used)[r].nodes, batch);
    for (const BranchNode& node : (*used)[r].nodes) {
      add_law(record.refused_laws, node.refused, -1, vocab, batch);
      tokens.push_back(record.refused[static_cast<size_t>(node.refused)].token);
    }
  }
  batch.embeds.resize(tokens.size() * static_cast<size_t>(batch.hidden));
  if (Status s = rows.token_rows(tokens, batch.embeds.data()); !s) return s;
  return batch;
}

}  // namespace aurora
