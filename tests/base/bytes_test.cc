#include "base/bytes.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

TEST(Bytes, WritesLittleEndianAndReadsItBack) {
  ByteWriter out;
  out.put(uint16_t{0x0102});
  out.put(int32_t{-2});
  out.put(1.5f);
  out.put_bytes("abc");
  const std::vector<int32_t> numbers{7, -8};
  out.put_span(std::span<const int32_t>(numbers));
  out.patch(0, uint16_t{0x0304});
  const std::vector<std::byte> bytes = std::move(out).take();
  ASSERT_EQ(bytes.size(), 2u + 4 + 4 + 3 + 8);
  EXPECT_EQ(bytes[0], std::byte{0x04});

  ByteReader in(bytes);
  EXPECT_EQ(in.get<uint16_t>(), 0x0304);
  EXPECT_EQ(in.get<int32_t>(), -2);
  EXPECT_EQ(in.get<float>(), 1.5f);
  EXPECT_EQ(in.get_string(3), "abc");
  EXPECT_EQ(in.get_vector<int32_t>(2), numbers);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(Bytes, AReadPastTheEndFailsForGood) {
  const std::vector<std::byte> bytes(6);
  ByteReader in(bytes);
  EXPECT_EQ(in.get<uint64_t>(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.get<uint8_t>(), 0) << "the bytes are there, but the reader has failed";
  EXPECT_EQ(in.remaining(), 0u);

  ByteReader huge(bytes);
  EXPECT_TRUE(huge.get_vector<int32_t>(SIZE_MAX / 2).empty());
  EXPECT_FALSE(huge.ok());
  ByteReader text(bytes);
  EXPECT_EQ(text.get_string(SIZE_MAX), "");
  EXPECT_FALSE(text.ok());
}

}  // namespace
}  // namespace aurora
