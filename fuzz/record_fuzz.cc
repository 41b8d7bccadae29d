// Any bytes as a trace record: decoding must neither crash nor accept what it would not write.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "trace/record.h"

namespace {

// What is accepted must come out again bit by bit: there is one encoding of a record.
void decode_one(std::span<const std::byte> bytes) {
  const aurora::Result<aurora::RecordHead> head = aurora::decode_head(bytes);
  const aurora::Result<aurora::TraceRecord> record = aurora::decode(bytes);
  if (!record) return;
  CHECK(head.is_ok() && head->id == record->id);
  const std::vector<std::byte> again = *aurora::encode(*record);
  CHECK(std::ranges::equal(again, bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  decode_one(bytes);
  if (size < aurora::kRecordHeaderBytes) return 0;
  // The checksum would stop nearly every mutation at the door: mend header and sum, and go on.
  const std::span<const std::byte> body = std::span(bytes).subspan(aurora::kRecordHeaderBytes);
  const uint16_t version = aurora::kRecordVersion;
  const uint32_t length = static_cast<uint32_t>(body.size());
  const uint32_t crc = aurora::crc32c(body);
  std::memcpy(&bytes[0], "AUTR", 4);
  std::memcpy(&bytes[4], &version, sizeof version);
  std::memset(&bytes[6], 0, 2);
  std::memcpy(&bytes[8], &length, sizeof length);
  std::memcpy(&bytes[12], &crc, sizeof crc);
  decode_one(bytes);
  return 0;
}
