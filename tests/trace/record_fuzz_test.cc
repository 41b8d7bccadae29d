// Drives the fuzz target over mutated seeds, so that every test run covers it, with any compiler.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "trace/sample_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace aurora {
namespace {

void run(const std::vector<std::byte>& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

// A count that lies is the likeliest attack on a decoder: whole numbers go in beside single bytes.
void mutate(std::mt19937& rng, std::vector<std::byte>& bytes) {
  constexpr uint32_t kNasty[] = {0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
  const size_t at = rng() % bytes.size();
  switch (rng() % 5) {
    case 0: bytes[at] = static_cast<std::byte>(rng()); break;
    case 1: bytes[at] ^= static_cast<std::byte>(1 << rng() % 8); break;
    case 2: {
      const uint32_t value = kNasty[rng() % std::size(kNasty)];
      std::memcpy(&bytes[at], &value, std::min(sizeof value, bytes.size() - at));
      break;
    }
    case 3: bytes.resize(at + 1); break;
    case 4: bytes.insert(bytes.begin() + static_cast<long>(at), rng() % 32, std::byte{0}); break;
  }
}

TEST(RecordFuzz, MutatedSeeds) {
  std::mt19937 rng(11);
  for (int i = 0; i < 6000; ++i) {
    const SampleOptions options{.prompt_tokens = 1 + i % 4,
                                .served_tokens = 1 + i % 7,
                                .hidden = 1 + i % 3,
                                .law_k = 1 + i % 3};
    std::vector<std::byte> bytes = *encode(sample_record(static_cast<uint32_t>(i), options));
    run(bytes);
    for (uint32_t rounds = 1 + rng() % 3; rounds > 0; --rounds) mutate(rng, bytes);
    run(bytes);
  }
  run({});
}

}  // namespace
}  // namespace aurora
