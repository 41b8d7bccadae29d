// CRC-32C (Castagnoli), as in iSCSI: reflected, initial value and final xor all ones. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aurora {

// SSE4.2 where the CPU has it (about 8 GB/s), else a table. `before`: the crc of the bytes before
// these, so that crc32c(b, crc32c(a)) is the crc of a followed by b.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before = 0);

namespace internal {  // for tests: both ways by name
uint32_t crc32c_table(std::span<const std::byte> bytes, uint32_t before);
bool crc32c_has_hardware();
uint32_t crc32c_hardware(std::span<const std::byte> bytes, uint32_t before);
}  // namespace internal

}  // namespace aurora
