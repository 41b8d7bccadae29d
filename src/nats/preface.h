// How something larger than a message lies in a stream: its last message names the pieces before it
// by sequence, so it is complete where that message is. Traces (docs/trace-format.md) and drafts
// (docs/draft-registry.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace aurora {

struct Preface {
  uint64_t bytes = 0;            // of the whole
  int64_t expires_ms = 0;        // unix time; 0: never
  std::vector<uint64_t> pieces;  // sequences, in order
};

inline constexpr size_t kPrefaceFixedBytes = 8 + 8 + 4;

inline std::vector<std::byte> with_preface(const Preface& preface,
                                           std::span<const std::byte> rest) {
  ByteWriter out;
  out.reserve(kPrefaceFixedBytes + preface.pieces.size() * 8 + rest.size());
  out.put(preface.bytes);
  out.put(preface.expires_ms);
  out.put(static_cast<uint32_t>(preface.pieces.size()));
  out.put_span(std::span<const uint64_t>(preface.pieces));
  out.put_bytes({reinterpret_cast<const char*>(rest.data()), rest.size()});
  return std::move(out).take();
}

// Leaves in `message` what stands behind the preface.
inline Result<Preface> take_preface(std::span<const std::byte>& message) {
  ByteReader in(message);
  Preface preface;
  preface.bytes = in.get<uint64_t>();
  preface.expires_ms = in.get<int64_t>();
  preface.pieces = in.get_vector<uint64_t>(in.get<uint32_t>());
  if (!in.ok()) return Status::truncated("the message that names its pieces");
  // One piece that is named a thousand times would be fetched and kept as often.
  std::vector<uint64_t> sorted = preface.pieces;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    return Status::corrupt("a message that names a piece twice");
  message = message.last(in.remaining());
  return preface;
}

}  // namespace aurora
