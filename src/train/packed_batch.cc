#include "train/packed_batch.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace aurora {
namespace {

void add_taps(const TraceRecord& record, int start, int rows, PackedBatch& batch) {
  const size_t width = static_cast<size_t>(3) * batch.hidden;
  const size_t begin = static_cast<size_t>(start) * width;
  const size_t count = static_cast<size_t>(rows) * width;
  const size_t at = batch.taps.size();
  batch.taps.resize(at + count);
  for (size_t i = 0; i < count; ++i) batch.taps[at + i] = half_to_float(record.taps[begin + i]);
}

void add_laws(const TraceRecord& record, const DraftIndex& vocab, PackedBatch& batch) {
  const auto find = [&vocab](int64_t id) {
    const auto it = vocab.find(id);
    return it == vocab.end() ? -1 : it->second;
  };
  const int served = record.served_tokens();
  const int k = record.laws.k;
  for (int i = 0; i < served; ++i) {
    float mass = 0;
    for (int j = 0; j < batch.law_k; ++j) {
      const size_t at = static_cast<size_t>(i) * static_cast<size_t>(k) + static_cast<size_t>(j);
      const int32_t id = j < k ? find(record.laws.ids[at]) : -1;
      const float p = id < 0 ? 0.0f : std::exp(record.laws.logprobs[at]);
      batch.law_ids.push_back(id);
      batch.law_probs.push_back(p);
      mass += p;
    }
    batch.law_mass.push_back(mass);
    const auto token = static_cast<size_t>(record.prompt_tokens + i);
    batch.served.push_back(find(record.tokens[token]));
  }
}

// Index arrays of one request. Query i is column t = P-1+i; its step-k label is served token i+1+k.
void add_columns(const TraceRecord& record, const PackedRequest& request, PackedBatch& batch) {
  for (int j = 0; j < request.rows; ++j) {
    batch.row_embed.push_back(request.embed0 + j);
    batch.position.push_back(static_cast<float>(request.position0 + j));
  }
  const int first = request.rows - request.queries;
  for (int i = 0; i < request.queries; ++i) batch.query_row.push_back(request.row0 + first + i);
  const int law0 = batch.laws;
  batch.laws += record.served_tokens();
  for (int k = 0; k < batch.steps; ++k) {
    for (int i = 0; i < request.queries; ++i) {
      const size_t at = static_cast<size_t>(k) * static_cast<size_t>(batch.queries) +
                        static_cast<size_t>(request.query0 + i);
      batch.query_embed[at] = request.embed0 + std::min(first + i + k, request.rows);
      batch.query_law[at] = i + 1 + k < record.served_tokens() ? law0 + i + 1 + k : -1;
    }
  }
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
                         int steps, int context_rows_max) {
  PackedBatch batch;
  batch.steps = steps;
  std::vector<const TraceRecord*> used;
  for (const TraceRecord* record : records) {
    if (record->served_tokens() < 2) continue;
    if (batch.hidden == 0) batch.hidden = record->hidden;
    if (record->hidden != batch.hidden)
      return Status::invalid("records of different hidden sizes in one batch");
    const int start = std::max(0, record->prompt_tokens - 1 - context_rows_max);
    PackedRequest request;
    request.row0 = batch.rows;
    request.rows = record->rows() - 1 - start;
    request.embed0 = batch.embeds_count;
    request.query0 = batch.queries;
    request.queries = record->served_tokens() - 1;
    request.position0 = start;
    batch.rows += request.rows;
    batch.embeds_count += request.rows + 1;
    batch.queries += request.queries;
    batch.law_k = std::max(batch.law_k, record->laws.k);
    batch.requests.push_back(request);
    used.push_back(record);
  }
  batch.query_embed.resize(static_cast<size_t>(steps) * static_cast<size_t>(batch.queries));
  batch.query_law.resize(batch.query_embed.size());
  std::vector<int32_t> tokens;
  for (size_t r = 0; r < used.size(); ++r) {
    const PackedRequest& request = batch.requests[r];
    add_taps(*used[r], request.position0, request.rows, batch);
    add_columns(*used[r], request, batch);
    add_laws(*used[r], vocab, batch);
    tokens.insert(tokens.end(), used[r]->tokens.begin() + request.position0 + 1,
                  used[r]->tokens.end());
  }
  batch.embeds.resize(tokens.size() * static_cast<size_t>(batch.hidden));
  if (Status s = rows.token_rows(tokens, batch.embeds.data()); !s) return s;
  return batch;
}

}  // namespace aurora
