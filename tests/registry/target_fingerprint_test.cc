#include "registry/target_fingerprint.h"

#include <ggml.h>
#include <gguf.h>
#include <gtest/gtest.h>

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

TEST(TargetFingerprint, WhatIsNoModel) {
  const TempDir dir;
  EXPECT_EQ(target_fingerprint(dir / "none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(target_fingerprint(dir.path()).status().code(), StatusCode::kInvalid);
}

}  // namespace
}  // namespace aurora
