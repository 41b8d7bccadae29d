#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <vector>

#include "base/crc32c.h"
#include "base/fingerprint.h"
#include "base/sha256.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The vectors of RFC 3720, B.4, and the usual check value.
TEST(Crc32c, KnownVectorsBothWays) {
  std::vector<std::byte> zeros(32), ones(32, std::byte{0xff}), rising(32), falling(32);
  for (size_t i = 0; i < 32; ++i) {
    rising[i] = static_cast<std::byte>(i);
    falling[i] = static_cast<std::byte>(31 - i);
  }
  const std::pair<std::span<const std::byte>, uint32_t> cases[] = {
      {bytes_of("123456789"), 0xE3069283},
      {zeros, 0x8A9136AA},
      {ones, 0x62A8AB43},
      {rising, 0x46DD794E},
      {falling, 0x113FDB5C},
      {{}, 0},
  };
  for (const auto& [bytes, expected] : cases) {
    EXPECT_EQ(internal::crc32c_table(bytes, 0), expected);
    EXPECT_EQ(crc32c(bytes), expected);
    if (internal::crc32c_has_hardware()) {
      EXPECT_EQ(internal::crc32c_hardware(bytes, 0), expected);
    }
  }
}

TEST(Crc32c, PiecesAndBothWaysAgree) {
  std::mt19937 rng(1);
  std::vector<std::byte> bytes(1000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  const std::span<const std::byte> all(bytes);
  const uint32_t expected = internal::crc32c_table(all, 0);
  EXPECT_EQ(crc32c(all), expected);
  for (size_t cut = 0; cut <= bytes.size(); cut += 7) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), expected);
  }
}

TEST(Sha256, KnownVectors) {
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(bytes_of("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, FileOfSeveralPieces) {
  const TempDir dir;
  const std::string content(3u << 20, 'a');
  std::ofstream(dir / "file") << content;
  const Result<std::string> digest = sha256_file(dir / "file");
  ASSERT_TRUE(digest);
  EXPECT_EQ(*digest, sha256_hex(bytes_of(content)));
  EXPECT_EQ(sha256_file(dir / "none").status().code(), StatusCode::kNotFound);
}

TEST(Fingerprint, SeesSizeAndPieces) {
  const TempDir dir;
  std::string content(3000, 'a');
  const std::vector<FilePiece> pieces = {{0, 1000}, {2000, 1000}};
  const auto fingerprint = [&](const std::string& text) {
    std::ofstream(dir / "model", std::ios::trunc) << text;
    const Result<std::string> result = file_fingerprint(dir / "model", pieces);
    EXPECT_TRUE(result);
    return result ? *result : "";
  };
  const std::string plain = fingerprint(content);
  EXPECT_EQ(plain.size(), 16u);
  EXPECT_EQ(fingerprint(content), plain);
  EXPECT_NE(fingerprint(content + "a"), plain);
  content.back() = 'b';
  EXPECT_NE(fingerprint(content), plain);
  content.back() = 'a';
  content.front() = 'b';
  EXPECT_NE(fingerprint(content), plain);
  content.front() = 'a';
  content[1500] = 'b';  // in no piece
  EXPECT_EQ(fingerprint(content), plain);

  // By its definition: sha256 of the size as 8 bytes, little endian, and the pieces; the second one
  // stands behind the end.
  const std::string hashed = std::string("\x03\0\0\0\0\0\0\0", 8) + "abc";
  EXPECT_EQ(fingerprint("abc"), sha256_hex(bytes_of(hashed)).substr(0, 16));
  EXPECT_EQ(file_fingerprint(dir / "none", pieces).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(file_fingerprint(dir.path(), pieces).status().code(), StatusCode::kInvalid);
}

}  // namespace
}  // namespace aurora
