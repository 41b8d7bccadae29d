// Drives the fuzz target over mutated seeds, so that every test run covers it, with any compiler.
#include <gtest/gtest.h>

#include "draft/draft_check.h"
#include "draft/draft_file_maker.h"
#include "draft/mutate.h"
#include "registry/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace aurora {
namespace {

void run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

TEST(DraftFuzz, MutatedSeeds) {
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // complaints are expected
  const TempDir dir;
  std::mt19937 rng(13);
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0}) {
    TinyDraft draft;
    draft.type = type;
    write_tiny_draft(dir.file("draft.gguf"), draft);
    const DraftTarget target{.hidden = 64, .vocab = 50, .layers = 6, .tokenizer = {}};
    ASSERT_TRUE(check_draft_file(dir.file("draft.gguf"), target));  // the target's idea of a draft
    const std::string whole = dir.read("draft.gguf");
    run(whole);
    for (int i = 0; i < 800; ++i) {
      std::string bytes = whole;
      for (uint32_t rounds = 1 + rng() % 3; rounds > 0; --rounds) mutate(rng, bytes, 4000);
      run(bytes);
    }
  }
  run({});
}

}  // namespace
}  // namespace aurora
