// The trace record: what the target said about one served request, written once. Format:
// docs/trace-format.md. P = prompt tokens, C = served tokens, L = P + C - 1, D = hidden size of the
// target. Row t belongs to token x_t: taps a_t, and the law p_t of the NEXT token x_{t+1}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

inline constexpr uint16_t kRecordVersion = 1;
inline constexpr int kTapCount = 3;
inline constexpr size_t kRecordHeaderBytes = 16;
inline constexpr uint64_t kRecordBytesMax = UINT32_MAX + uint64_t{kRecordHeaderBytes};

// Bounds of one record, checked by validate().
inline constexpr int32_t kRecordTokensMax = 1 << 22;
inline constexpr int32_t kHiddenMax = 1 << 16;
inline constexpr int32_t kLawTopMax = 1024;
inline constexpr size_t kLabelBytesMax = 256;  // target, tenant, domain: each

enum class TapType : uint8_t { kF16 = 0 };  // kept in the record: other types may follow

// The target's law of one position, as its top k: log p under the FULL softmax (true normaliser,
// temperature 1, before any sampler), so the mass outside is 1 - sum exp(logprob). ids are by
// falling logprob.
struct LawRows {
  int32_t k = 0;
  std::vector<int32_t> ids;     // [rows * k]
  std::vector<float> logprobs;  // [rows * k]
  size_t rows() const { return k == 0 ? 0 : ids.size() / static_cast<size_t>(k); }
};

// One verify step: the target saw x_{first-1} and `drafted` behind it.
struct VerifyStep {
  int32_t first = 0;  // position of the first drafted token
  int64_t draft_version = 0;
  uint16_t accepted = 0;  // leading drafted tokens that were served
  std::vector<int32_t> drafted;
  std::vector<float> draft_probs;  // the draft's own probability of each, same length
};

// Rows behind the first refused token. `position` is where the token stood in the verify batch:
// rows of one step are consecutive, in batch order. The first of a step is the sibling of the
// served token at the same position.
struct RefusedRow {
  int32_t step = 0;  // index into steps
  int32_t position = 0;
  int32_t token = 0;
};

struct SamplingParams {
  float temperature = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  uint32_t seed = 0;
};

struct TraceRecord {
  uint64_t id = 0;  // unique: random per server start in the upper 32 bits, a counter in the lower
  int64_t created_ms = 0;   // unix time
  int64_t expires_ms = 0;   // 0: never
  uint64_t rollout_of = 0;  // id of the request whose prompt was answered again while the server
                            // was idle; 0: a user's request
  std::string target;       // fingerprint of the target model: a trainer of another target skips it
  std::string tenant;
  std::string domain;
  SamplingParams sampling;

  int32_t hidden = 0;  // D
  TapType tap_type = TapType::kF16;
  int32_t tap_layers[kTapCount] = {0, 0,
                                   0};  // row t holds the INPUT of these layers, in this order
  int32_t prompt_tokens = 0;            // P
  std::vector<int32_t> tokens;          // [L + 1] x_0 ... x_L, as served
  std::vector<uint16_t> taps;           // [L, 3, D] fp16 bits, rows 0 ... L-1
  LawRows laws;                         // C rows: row i is p_{P-1+i}, the law of served token i
  std::vector<VerifyStep> steps;
  std::vector<RefusedRow> refused;
  std::vector<uint16_t> refused_taps;  // [refused, 3, D]
  LawRows refused_laws;                // one row per refused
  int32_t target_steps = 0;            // decode steps of this slot that produced the C tokens

  // Of a piece that the trainer cut out of a record (train/segments.h); never on disk.
  int32_t cut_before =
      0;  // tokens of the request before x_0: x_t stands at position cut_before + t
  bool mid_answer = false;  // what counts as its prompt ends in the answer

  int32_t served_tokens() const { return static_cast<int32_t>(tokens.size()) - prompt_tokens; }
  int32_t rows() const { return static_cast<int32_t>(tokens.size()) - 1; }
};

// Every shape and range the comments above promise; Status::corrupt says which one is broken.
// Called by encode (CHECK), decode and TraceBuffer::append. A refused row needs a served sibling:
// where the answer was cut inside a step's accepted tokens, that step has no refused rows.
Status validate(const TraceRecord& record);

// Bytes on disk: magic, version, length, crc32c of the body, body. Little endian. full: more than
// bytes_max, found by arithmetic before anything is copied.
Result<std::vector<std::byte>> encode(const TraceRecord& record,
                                      uint64_t bytes_max = kRecordBytesMax);
uint64_t encoded_bytes(const TraceRecord& record);

// truncated / corrupt / invalid (a version from the future: names it). Never aborts, whatever the
// bytes.
Result<TraceRecord> decode(std::span<const std::byte> bytes);

// The head alone: id, created, expiry, served tokens, without touching the taps. `bytes` may be the
// beginning of a record (64 bytes will do): the checksum is not looked at.
struct RecordHead {
  uint64_t id = 0;
  int64_t created_ms = 0;
  int64_t expires_ms = 0;
  int32_t served_tokens = 0;
  size_t record_bytes = 0;  // of the whole record, as its header says
};
Result<RecordHead> decode_head(std::span<const std::byte> bytes);

}  // namespace aurora
