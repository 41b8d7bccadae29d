#include "draft/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "draft/mutate.h"
#include "registry/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace aurora {
namespace {

std::string file_of(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

class Safetensors : public testing::Test {
 protected:
  std::string path() const { return dir_.file("model.safetensors"); }

  void refused(const std::string& bytes, StatusCode code, const std::string& words) const {
    dir_.write("model.safetensors", bytes);
    const auto file = SafetensorsFile::open(path());
    ASSERT_FALSE(file) << "accepted, expected: " << words;
    EXPECT_EQ(file.status().code(), code) << file.status().to_string();
    EXPECT_TRUE(file.status().message().starts_with(path())) << file.status().message();
    EXPECT_NE(file.status().message().find(words), std::string::npos) << file.status().message();
    EXPECT_EQ(file.status().message().find('\n'), std::string::npos);
  }

  std::string sample() const {
    const int64_t ids[] = {7, 1};
    const float values[] = {1.5f, -2.0f, 0.25f};
    const uint16_t halves[] = {0x3c00, 0xbc00};
    const SafeTensor tensors[] = {
        {"ids", SafeType::kI64, {2}, std::as_bytes(std::span(ids))},
        {"values", SafeType::kF32, {1, 3}, std::as_bytes(std::span(values))},
        {"halves", SafeType::kBf16, {2, 1}, std::as_bytes(std::span(halves))},
        {"none", SafeType::kF16, {0, 4}, {}}};
    EXPECT_TRUE(write_safetensors(path(), tensors, {{"format", "pt"}}));
    return dir_.read("model.safetensors");
  }

  const TempDir dir_;
};

TEST_F(Safetensors, ReadsWhatItWrote) {
  const std::string bytes = sample();
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file) << file.status().to_string();
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  const SafeTensor* ids = file->find("ids");
  ASSERT_NE(ids, nullptr);
  EXPECT_EQ(ids->type, SafeType::kI64);
  EXPECT_EQ(ids->shape, std::vector<int64_t>{2});
  int64_t read[2];
  std::memcpy(read, ids->data.data(), sizeof read);
  EXPECT_EQ(read[0], 7);
  EXPECT_EQ(read[1], 1);
  EXPECT_EQ(file->find("halves")->shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(file->find("other"), nullptr);
  // The header ends where data may begin, and every tensor lies on a multiple of its width.
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes[8], '{');
}

// The bytes that the reference implementation writes for two tensors.
TEST_F(Safetensors, ReadsABlankPaddedHeaderOfOthers) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BOOL","shape":[3],"data_offsets":[4,7]},)"
      R"("a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}     )";
  dir_.write("model.safetensors", file_of(header, std::string("\0\x3c\0\xbc\1\0\1", 7)));
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file) << file.status().to_string();
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[1].data[2], std::byte{1});
}

TEST_F(Safetensors, CutAnywhereIsAnError) {
  const std::string whole = sample();
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    dir_.write("model.safetensors", whole.substr(0, bytes));
    const auto file = SafetensorsFile::open(path());
    ASSERT_FALSE(file) << bytes;
    EXPECT_EQ(file.status().code(), StatusCode::kTruncated) << file.status().to_string();
  }
}

TEST_F(Safetensors, HeadersThatCannotBe) {
  EXPECT_EQ(SafetensorsFile::open(dir_.file("none")).status().code(), StatusCode::kNotFound);
  refused(std::string(8, '\xff'), StatusCode::kCorrupt, "cannot be that long");
  refused(file_of("not json"), StatusCode::kCorrupt, "not JSON");
  refused(file_of("[1]"), StatusCode::kCorrupt, "not a JSON object");
  refused(file_of(R"({"a":1})"), StatusCode::kCorrupt, "type, shape and place of its tensor a");
  refused(file_of(R"({"__metadata__":{"a":1}})"), StatusCode::kCorrupt, "not text");
  std::string many = "{";
  for (size_t i = 0; i <= SafetensorsFile::kTensorsMax; ++i)
    many += "\"" + std::to_string(i) + "\":0,";
  many.back() = '}';
  refused(file_of(many), StatusCode::kCorrupt, "too many");
}

TEST_F(Safetensors, WrongOffsets) {
  refused(file_of(one("F32", "[2]", "[0,4]"), "12345678"), StatusCode::kCorrupt, "fit its shape");
  refused(file_of(one("F32", "[1]", "[4,0]"), "12345678"), StatusCode::kCorrupt, "fit its shape");
  refused(file_of(one("F32", "[1]", "[-4,0]"), "1234"), StatusCode::kCorrupt, "place");
  refused(file_of(one("F32", "[1]", "[4,8]"), "12345678"), StatusCode::kCorrupt, "a gap before a");
  refused(file_of(one("F32", "[1]", "[0,4]"), "12345678"), StatusCode::kCorrupt,
          "behind its last tensor");
  refused(file_of(one("F32", "[2]", "[0,8]"), "1234"), StatusCode::kTruncated,
          "before its tensor a");
  refused(file_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                  R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                  "1234"),
          StatusCode::kCorrupt, "overlap: b");
}

TEST_F(Safetensors, ImpossibleShapesAndTypes) {
  refused(file_of(one("F32", "[4294967296,4294967296]", "[0,0]")), StatusCode::kCorrupt,
          "impossible shape");
  refused(file_of(one("F32", "[-1]", "[0,4]"), "1234"), StatusCode::kCorrupt, "impossible shape");
  refused(file_of(one("F32", "[1,1,1,1,1]", "[0,4]"), "1234"), StatusCode::kCorrupt, "dimensions");
  refused(file_of(one("F8_E4M3", "[1]", "[0,1]"), "1"), StatusCode::kInvalid,
          "in F8_E4M3, which cannot be read here");
  refused(file_of(one("F\\n32", "[1]", "[0,1]"), "1"), StatusCode::kInvalid, "F?32");
}

TEST_F(Safetensors, AFolderThatIsMissingIsAnError) {
  EXPECT_EQ(write_safetensors("/nowhere/x.safetensors", {}, {}).code(), StatusCode::kNotFound);
}

// Drives the fuzz target over mutated seeds, so that every test run covers it, with any compiler.
TEST_F(Safetensors, MutatedSeeds) {
  const std::string whole = sample();
  std::mt19937 rng(17);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    for (uint32_t rounds = 1 + rng() % 3; rounds > 0; --rounds) mutate(rng, bytes, bytes.size());
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  LLVMFuzzerTestOneInput(nullptr, 0);
}

}  // namespace
}  // namespace aurora
