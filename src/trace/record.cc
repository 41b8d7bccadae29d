#include "trace/record.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

namespace aurora {
namespace {

constexpr char kMagic[] = {'A', 'U', 'T', 'R'};
constexpr size_t kLengthOffset = 8;
constexpr size_t kCrcOffset = 12;
constexpr size_t kHeadBodyBytes = 8 + 8 + 8 + 4;  // id, created, expires, served tokens
constexpr size_t kStepBytesMin = 4 + 8 + 2 + 2;
constexpr size_t kRefusedBytes = 4 + 4 + 4;
constexpr uint16_t kRolloutFlag = 1;  // the body ends with rollout_of

// ---- encode ----

void put_label(ByteWriter& out, const std::string& label) {
  out.put(static_cast<uint16_t>(label.size()));
  out.put_bytes(label);
}

template <typename T>
void put_counted(ByteWriter& out, const std::vector<T>& values) {
  out.put(static_cast<uint32_t>(values.size()));
  out.put_span(std::span<const T>(values));
}

void put_laws(ByteWriter& out, const LawRows& laws) {
  out.put(laws.k);
  put_counted(out, laws.ids);
  out.put_span(std::span<const float>(laws.logprobs));
}

void put_steps(ByteWriter& out, const TraceRecord& r) {
  out.put(static_cast<uint32_t>(r.steps.size()));
  for (const VerifyStep& step : r.steps) {
    out.put(step.first);
    out.put(step.draft_version);
    out.put(step.accepted);
    out.put(static_cast<uint16_t>(step.drafted.size()));
    out.put_span(std::span<const int32_t>(step.drafted));
    out.put_span(std::span<const float>(step.draft_probs));
  }
}

uint64_t law_bytes(const LawRows& laws) { return 4 + 4 + 8 * uint64_t{laws.ids.size()}; }

// ---- decode ----

std::string get_label(ByteReader& in) { return in.get_string(in.get<uint16_t>()); }

template <typename T>
std::vector<T> get_counted(ByteReader& in) {
  return in.get_vector<T>(in.get<uint32_t>());
}

LawRows get_laws(ByteReader& in) {
  LawRows laws;
  laws.k = in.get<int32_t>();
  laws.ids = get_counted<int32_t>(in);
  laws.logprobs = in.get_vector<float>(laws.ids.size());
  return laws;
}

std::vector<VerifyStep> get_steps(ByteReader& in) {
  const size_t count = in.get<uint32_t>();
  std::vector<VerifyStep> steps;
  if (count > in.remaining() / kStepBytesMin) in.fail();
  if (!in.ok()) return steps;
  steps.resize(count);
  for (VerifyStep& step : steps) {
    step.first = in.get<int32_t>();
    step.draft_version = in.get<int64_t>();
    step.accepted = in.get<uint16_t>();
    const size_t drafted = in.get<uint16_t>();
    step.drafted = in.get_vector<int32_t>(drafted);
    step.draft_probs = in.get_vector<float>(drafted);
    if (!in.ok()) break;
  }
  return steps;
}

std::vector<RefusedRow> get_refused(ByteReader& in) {
  const size_t count = in.get<uint32_t>();
  std::vector<RefusedRow> refused;
  if (count > in.remaining() / kRefusedBytes) in.fail();
  if (!in.ok()) return refused;
  refused.resize(count);
  for (RefusedRow& row : refused) {
    row.step = in.get<int32_t>();
    row.position = in.get<int32_t>();
    row.token = in.get<int32_t>();
  }
  return refused;
}

SamplingParams get_sampling(ByteReader& in) {
  SamplingParams s;
  s.temperature = in.get<float>();
  s.top_p = in.get<float>();
  s.min_p = in.get<float>();
  s.top_k = in.get<int32_t>();
  s.seed = in.get<uint32_t>();
  return s;
}

RecordHead get_head(ByteReader& in) {
  RecordHead head;
  head.id = in.get<uint64_t>();
  head.created_ms = in.get<int64_t>();
  head.expires_ms = in.get<int64_t>();
  head.served_tokens = in.get<int32_t>();
  return head;
}

struct RecordHeader {
  uint16_t flags = 0;
  uint32_t body_bytes = 0;
  uint32_t crc = 0;
};

Result<RecordHeader> read_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kRecordHeaderBytes) return Status::truncated("record header");
  if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) return Status::corrupt("record magic");
  ByteReader in(bytes.subspan(sizeof kMagic));
  const uint16_t version = in.get<uint16_t>();
  RecordHeader header;
  header.flags = in.get<uint16_t>();
  if (version > kRecordVersion) {
    return Status::invalid("record version " + std::to_string(version) +
                           " is newer than this program reads (" + std::to_string(kRecordVersion) +
                           ")");
  }
  if (version != kRecordVersion || header.flags > kRolloutFlag)
    return Status::corrupt("record version or flags");
  header.body_bytes = in.get<uint32_t>();
  header.crc = in.get<uint32_t>();
  return header;
}

TraceRecord get_body(ByteReader& in, uint16_t flags, int32_t& served_tokens) {
  TraceRecord r;
  const RecordHead head = get_head(in);
  r.id = head.id;
  r.created_ms = head.created_ms;
  r.expires_ms = head.expires_ms;
  served_tokens = head.served_tokens;
  r.target = get_label(in);
  r.tenant = get_label(in);
  r.domain = get_label(in);
  r.sampling = get_sampling(in);
  r.target_steps = in.get<int32_t>();
  r.hidden = in.get<int32_t>();
  r.tap_type = static_cast<TapType>(in.get<uint8_t>());
  for (int32_t& layer : r.tap_layers) layer = in.get<int32_t>();
  r.prompt_tokens = in.get<int32_t>();
  r.tokens = get_counted<int32_t>(in);
  r.taps = get_counted<uint16_t>(in);
  r.laws = get_laws(in);
  r.steps = get_steps(in);
  r.refused = get_refused(in);
  r.refused_taps = get_counted<uint16_t>(in);
  r.refused_laws = get_laws(in);
  if (flags == kRolloutFlag) {
    r.rollout_of = in.get<uint64_t>();
    if (r.rollout_of == 0) in.fail();
  }
  return r;
}

}  // namespace

uint64_t encoded_bytes(const TraceRecord& r) {
  constexpr uint64_t kSamplingBytes = 4 + 4 + 4 + 4 + 4;
  constexpr uint64_t kShapeBytes = 4 + 4 + 1 + 4 * kTapCount + 4;  // target steps ... prompt tokens
  constexpr uint64_t kCounts = 5 * 4;  // tokens, taps, steps, refused, refused taps
  uint64_t bytes = kRecordHeaderBytes + kHeadBodyBytes + kSamplingBytes + kShapeBytes + kCounts;
  for (const std::string* label : {&r.target, &r.tenant, &r.domain}) bytes += 2 + label->size();
  bytes += 4 * uint64_t{r.tokens.size()};
  bytes += 2 * (uint64_t{r.taps.size()} + r.refused_taps.size());
  bytes += law_bytes(r.laws) + law_bytes(r.refused_laws);
  for (const VerifyStep& step : r.steps) bytes += kStepBytesMin + 8 * uint64_t{step.drafted.size()};
  bytes += kRefusedBytes * uint64_t{r.refused.size()};
  return bytes + (r.rollout_of != 0 ? sizeof r.rollout_of : 0);
}

Result<std::vector<std::byte>> encode(const TraceRecord& record, uint64_t bytes_max) {
  CHECK(validate(record).is_ok());
  const uint64_t bytes = encoded_bytes(record);
  if (bytes > std::min(bytes_max, kRecordBytesMax)) {
    return Status::full("a record of " + std::to_string(bytes) + " bytes is larger than the " +
                        std::to_string(std::min(bytes_max, kRecordBytesMax)) + " it may be");
  }
  ByteWriter out;
  out.reserve(bytes);
  out.put_bytes({kMagic, sizeof kMagic});
  out.put(kRecordVersion);
  out.put(record.rollout_of != 0 ? kRolloutFlag : uint16_t{0});
  out.put(uint32_t{0});  // body bytes and crc: below, when they are known
  out.put(uint32_t{0});
  out.put(record.id);
  out.put(record.created_ms);
  out.put(record.expires_ms);
  out.put(record.served_tokens());
  put_label(out, record.target);
  put_label(out, record.tenant);
  put_label(out, record.domain);
  out.put(record.sampling.temperature);
  out.put(record.sampling.top_p);
  out.put(record.sampling.min_p);
  out.put(record.sampling.top_k);
  out.put(record.sampling.seed);
  out.put(record.target_steps);
  out.put(record.hidden);
  out.put(static_cast<uint8_t>(record.tap_type));
  for (const int32_t layer : record.tap_layers) out.put(layer);
  out.put(record.prompt_tokens);
  put_counted(out, record.tokens);
  put_counted(out, record.taps);
  put_laws(out, record.laws);
  put_steps(out, record);
  out.put(static_cast<uint32_t>(record.refused.size()));
  for (const RefusedRow& row : record.refused) {
    out.put(row.step);
    out.put(row.position);
    out.put(row.token);
  }
  put_counted(out, record.refused_taps);
  put_laws(out, record.refused_laws);
  if (record.rollout_of != 0) out.put(record.rollout_of);
  const std::span<const std::byte> body = out.bytes().subspan(kRecordHeaderBytes);
  CHECK(out.size() == bytes);
  out.patch(kLengthOffset, static_cast<uint32_t>(body.size()));
  out.patch(kCrcOffset, crc32c(body));
  return std::move(out).take();
}

Result<TraceRecord> decode(std::span<const std::byte> bytes) {
  const Result<RecordHeader> header = read_header(bytes);
  if (!header) return header.status();
  const std::span<const std::byte> body = bytes.subspan(kRecordHeaderBytes);
  if (body.size() < header->body_bytes) return Status::truncated("record body");
  if (body.size() > header->body_bytes) return Status::corrupt("bytes behind the record");
  if (header->crc != crc32c(body)) return Status::corrupt("record crc");
  ByteReader in(body);
  int32_t served_tokens = 0;
  TraceRecord record = get_body(in, header->flags, served_tokens);
  if (!in.ok()) return Status::corrupt("record: a count runs past the end");
  if (in.remaining() != 0) return Status::corrupt("record: bytes left over");
  if (Status s = validate(record); !s) return s;
  if (record.served_tokens() != served_tokens) return Status::corrupt("record: served tokens");
  return record;
}

Result<RecordHead> decode_head(std::span<const std::byte> bytes) {
  const Result<RecordHeader> header = read_header(bytes);
  if (!header) return header.status();
  const std::span<const std::byte> body = bytes.subspan(kRecordHeaderBytes);
  if (body.size() < kHeadBodyBytes) return Status::truncated("record head");
  ByteReader in(body);
  RecordHead head = get_head(in);
  head.record_bytes = kRecordHeaderBytes + header->body_bytes;
  return head;
}

}  // namespace aurora
