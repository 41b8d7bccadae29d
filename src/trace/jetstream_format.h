// How a trace lies in its stream (docs/trace-format.md): its last message, on the subject "record",
// names the pieces before it by sequence, so a record is complete where that message is.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace aurora {

struct RecordPreface {
  uint64_t record_bytes = 0;
  int64_t expires_ms = 0;
  std::vector<uint64_t> pieces;  // sequences, in order
};

inline constexpr size_t kPrefaceFixedBytes = 8 + 8 + 4;

inline std::vector<std::byte> with_preface(const RecordPreface& preface,
                                           std::span<const std::byte> rest) {
  ByteWriter out;
  out.reserve(kPrefaceFixedBytes + preface.pieces.size() * 8 + rest.size());
  out.put(preface.record_bytes);
  out.put(preface.expires_ms);
  out.put(static_cast<uint32_t>(preface.pieces.size()));
  out.put_span(std::span<const uint64_t>(preface.pieces));
  out.put_bytes({reinterpret_cast<const char*>(rest.data()), rest.size()});
  return std::move(out).take();
}

// Leaves in `message` what stands behind the preface.
inline Result<RecordPreface> take_preface(std::span<const std::byte>& message) {
  ByteReader in(message);
  RecordPreface preface;
  preface.record_bytes = in.get<uint64_t>();
  preface.expires_ms = in.get<int64_t>();
  preface.pieces = in.get_vector<uint64_t>(in.get<uint32_t>());
  if (!in.ok()) return Status::truncated("the message of a record");
  message = message.last(in.remaining());
  return preface;
}

inline std::string traces_stream(const std::string& prefix) { return prefix + "_traces"; }
inline std::string record_subject(const std::string& prefix) { return prefix + ".traces.record"; }
inline std::string piece_subject(const std::string& prefix) { return prefix + ".traces.piece"; }

}  // namespace aurora
