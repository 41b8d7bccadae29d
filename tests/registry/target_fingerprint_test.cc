#include "registry/target_fingerprint.h"

#include <ggml.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/temp_dir.h"

namespace aurora {
namespace {

// Three tensors of 3 MiB each, all of `value` but one number of the second.
std::string model(const TempDir& dir, float changed, size_t at) {
  constexpr int64_t kCount = 3 << 18;
  std::vector<float> plain(kCount, 1.0f), other(kCount, 1.0f);
  other[at] = changed;
  std::unique_ptr<ggml_context, void (*)(ggml_context*)> context(
      ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = true}), ggml_free);
  const std::unique_ptr<gguf_context, void (*)(gguf_context*)> out(gguf_init_empty(), gguf_free);
  for (const char* name : {"a", "b", "c"}) {
    ggml_tensor* tensor = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, kCount);
    ggml_set_name(tensor, name);
    gguf_add_tensor(out.get(), tensor);
    gguf_set_tensor_data(out.get(), name, name[0] == 'b' ? other.data() : plain.data());
  }
  const std::string path = dir / "model.gguf";
  EXPECT_TRUE(gguf_write_to_file(out.get(), path.c_str(), false));
  return path;
}

std::string of(const std::string& path) {
  const auto fingerprint = target_fingerprint(path);
  EXPECT_TRUE(fingerprint) << fingerprint.status().message();
  return fingerprint ? *fingerprint : "";
}

TEST(TargetFingerprint, SeesEveryTensor) {
  const TempDir dir;
  const std::string plain = of(model(dir, 1.0f, 0));
  EXPECT_EQ(plain.size(), 16u);
  EXPECT_EQ(of(model(dir, 1.0f, 5)), plain);
  EXPECT_NE(of(model(dir, 2.0f, 0)), plain);        // far from both ends of the file
  EXPECT_NE(of(model(dir, 2.0f, 3 << 17)), plain);  // its middle
  const std::string old = *old_target_fingerprint(model(dir, 1.0f, 0));
  EXPECT_EQ(*old_target_fingerprint(model(dir, 2.0f, 0)), old);  // which could not see it
}

// The model of two parts, the second with `value` in it.
std::string split_model(const TempDir& dir, float value) {
  for (const uint16_t part : {0, 1}) {
    const std::unique_ptr<gguf_context, void (*)(gguf_context*)> out(gguf_init_empty(), gguf_free);
    gguf_set_val_u16(out.get(), "split.no", part);
    gguf_set_val_u16(out.get(), "split.count", 2);
    gguf_set_val_f32(out.get(), "value", part == 1 ? value : 0);
    const std::string path = dir / ("m-0000" + std::to_string(part + 1) + "-of-00002.gguf");
    EXPECT_TRUE(gguf_write_to_file(out.get(), path.c_str(), false));
  }
  return dir / "m-00001-of-00002.gguf";
}

TEST(TargetFingerprint, OfEveryPart) {
  const TempDir dir;
  const std::string first = split_model(dir, 1);
  const std::string fingerprint = of(first);
  EXPECT_EQ(fingerprint.size(), 16u);
  EXPECT_EQ(of(dir / "m-00002-of-00002.gguf"), fingerprint);
  split_model(dir, 2);
  EXPECT_NE(of(first), fingerprint);

  const std::string renamed = dir / "part-two.gguf";
  std::filesystem::rename(dir / "m-00002-of-00002.gguf", renamed);
  EXPECT_EQ(target_fingerprint(renamed).status().code(), StatusCode::kInvalid);
  const Status missing = target_fingerprint(first).status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_NE(missing.message().find("m-00002-of-00002.gguf is missing"), std::string::npos);
}

TEST(TargetFingerprint, WhatIsNoModel) {
  const TempDir dir;
  EXPECT_EQ(target_fingerprint(dir / "none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(target_fingerprint(dir.path()).status().code(), StatusCode::kInvalid);
}

}  // namespace
}  // namespace aurora
