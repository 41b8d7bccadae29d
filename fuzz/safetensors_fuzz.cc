// Any bytes as a safetensors file: reading must neither crash nor leave the bytes it was given, and
// what is read comes out of the writer as it was.
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "draft/safetensors.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const aurora::MemoryFile file(data, size);
  const auto opened = aurora::SafetensorsFile::open(file.path());
  if (!opened) return 0;
  uint64_t bytes = 0;
  uint32_t sum = 0;
  for (const aurora::SafeTensor& tensor : opened->tensors()) {
    bytes += tensor.data.size();
    for (const std::byte byte : tensor.data) sum += static_cast<uint32_t>(byte);
    CHECK(opened->find(tensor.name) == &tensor);
  }
  uint64_t length = 0;
  std::memcpy(&length, data, sizeof length);
  CHECK(sizeof length + length + bytes == size && sum <= 255 * bytes);
  return 0;
}
