#include "draft/draft_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "draft/draft_file_maker.h"
#include "registry/temp_dir.h"

namespace aurora {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class DraftCheckTest : public testing::Test {
 protected:
  DraftCheckTest() {
    ggml_log_set([](ggml_log_level, const char*, void*) {},
                 nullptr);  // its complaints are expected
    target_.hidden = 64;
    target_.vocab = 50;
    target_.layers = 6;
  }
  Result<DraftFileInfo> check() const { return check_draft_file(path(), target_); }
  std::string path() const { return dir_.file("draft.gguf"); }

  // Refused with this code, by a sentence that names the file and says `words`.
  void refused(StatusCode code, const std::string& words) const {
    const Result<DraftFileInfo> result = check();
    ASSERT_FALSE(result) << "accepted, expected: " << words;
    EXPECT_EQ(result.status().code(), code) << result.status().to_string();
    EXPECT_TRUE(result.status().message().starts_with(path())) << result.status().message();
    EXPECT_NE(result.status().message().find(words), std::string::npos)
        << result.status().message() << "\nexpected: " << words;
  }
  void refused(const TinyDraft& draft, StatusCode code, const std::string& words) const {
    write_tiny_draft(path(), draft);
    refused(code, words);
  }
  void refused_key(const std::function<void(gguf_context*)>& edit, StatusCode code,
                   const std::string& words) const {
    TinyDraft draft;
    draft.edit_keys = edit;
    refused(draft, code, words);
  }

  size_t tensor_offset(const char* name) const {
    gguf_context* gguf = gguf_init_from_file(path().c_str(), {.no_alloc = true, .ctx = nullptr});
    const size_t at =
        gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, gguf_find_tensor(gguf, name));
    gguf_free(gguf);
    return at;
  }

  TempDir dir_;
  DraftTarget target_;
};

TEST_F(DraftCheckTest, SoundFilesPassInEveryType) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0,
                               GGML_TYPE_Q4_0, GGML_TYPE_Q4_1}) {
    TinyDraft draft;
    draft.type = type;
    write_tiny_draft(path(), draft);
    const Result<DraftFileInfo> info = check();
    ASSERT_TRUE(info) << ggml_type_name(type) << ": " << info.status().to_string();
    EXPECT_EQ(info->shape.hidden, 64);
    EXPECT_EQ(info->shape.heads, 4);
    EXPECT_EQ(info->shape.kv_heads, 2);
    EXPECT_EQ(info->shape.head_dim, 16);
    EXPECT_EQ(info->shape.ff, 96);
    EXPECT_EQ(info->vocab, 6);
    EXPECT_EQ(info->shape.tap_layers[2], 5);
    EXPECT_EQ(info->bytes, std::filesystem::file_size(path()));
  }
}

TEST_F(DraftCheckTest, NoGguf) {
  EXPECT_EQ(check().status().code(), StatusCode::kNotFound);
  for (const char* text : {"", "GG", "not a model at all", "GGUF", "GGUF\3\0\0"}) {
    dir_.write("draft.gguf", text);
    EXPECT_EQ(check().status().code(), StatusCode::kCorrupt) << text;
  }
  dir_.write("draft.gguf", "FUGG0000000000000000");
  refused(StatusCode::kCorrupt, "is not a GGUF file");
  EXPECT_FALSE(check_draft_file(dir_.path(), target_));
}

TEST_F(DraftCheckTest, TruncatedAnywhere) {
  write_tiny_draft(path(), {});
  const std::string whole = dir_.read("draft.gguf");
  dir_.write("draft.gguf", whole.substr(0, whole.size() / 2));
  refused(StatusCode::kTruncated, "ends before its tensor");
  for (size_t size = 0; size + 32 < whole.size(); size += size < 4096 ? 7 : 4099) {
    dir_.write("draft.gguf", std::string_view(whole).substr(0, size));
    EXPECT_FALSE(check()) << size;
  }
}

TEST_F(DraftCheckTest, BitFlipsInTheHeaderNeverAbort) {
  TinyDraft draft;
  draft.type = GGML_TYPE_Q8_0;
  write_tiny_draft(path(), draft);
  const std::string whole = dir_.read("draft.gguf");
  target_.tokenizer = *tokenizer_digest(path());
  const size_t header_bytes = tensor_offset("fc.weight");
  std::mt19937 rng(7);
  int accepted = 0;
  for (int i = 0; i < 600; ++i) {
    std::string flipped = whole;
    for (int flips = 1 + i % 3; flips > 0; --flips) {
      flipped[rng() % header_bytes] ^= static_cast<char>(1u << (rng() % 8));
    }
    dir_.write("draft.gguf", flipped);
    accepted += check().is_ok();
  }
  // What passes is harmless to the process: low bits of rope.freq_base, context_length or epsilon,
  // the name of an optional key, padding. The checksum in the manifest finds these.
  EXPECT_LT(accepted, 60);
}

TEST_F(DraftCheckTest, HostileCountsInTheHeader) {
  write_tiny_draft(path(), {});
  const std::string whole = dir_.read("draft.gguf");
  for (const size_t at : {8u, 16u, 24u}) {  // tensors, keys, length of the first key
    for (const char byte : {'\x7f', '\xff'}) {
      std::string hostile = whole;
      for (size_t i = 0; i < 8; ++i) hostile[at + i] = byte;
      dir_.write("draft.gguf", hostile);
      EXPECT_EQ(check().status().code(), StatusCode::kCorrupt);
    }
  }
}

TEST_F(DraftCheckTest, WrongModel) {
  TinyDraft wide;
  wide.hidden = 128;
  refused(wide, StatusCode::kInvalid, "has width 128, the target needs 64");
  TinyDraft other;
  other.architecture = "llama";
  refused(other, StatusCode::kInvalid, "is of architecture llama, not eagle3");
  TinyDraft deep;
  deep.tap_layers[2] = 6;
  refused(deep, StatusCode::kInvalid, "taps layer 6 of a target with 6");
  deep.tap_layers[2] = -1;
  refused(deep, StatusCode::kInvalid, "taps layer -1");
  TinyDraft heads;
  heads.kv_heads = 3;
  refused(heads, StatusCode::kCorrupt, "head counts");
  heads.kv_heads = 2;
  heads.head_dim = 17;
  refused(heads, StatusCode::kCorrupt, "head sizes");
}

TEST_F(DraftCheckTest, WrongVocabulary) {
  TinyDraft draft;
  draft.target_vocab = 51;
  refused(draft, StatusCode::kInvalid, "has a vocabulary of 51, the target needs 50");
  refused_key([](gguf_context* g) { gguf_remove_key(g, "tokenizer.ggml.tokens"); },
              StatusCode::kCorrupt, "no tokenizer");
  refused_key([](gguf_context* g) { gguf_set_val_u32(g, "eagle3.vocab_size", 49); },
              StatusCode::kCorrupt, "vocab_size");
}

TEST_F(DraftCheckTest, SameSizeOtherTokens) {
  write_tiny_draft(path(), {});
  target_.tokenizer = *tokenizer_digest(path());
  EXPECT_EQ(target_.tokenizer.size(), 3u);
  ASSERT_TRUE(check()) << check().status().to_string();
  refused_key(
      [](gguf_context* g) {
        const std::vector<const char*> tokens(50, "other");
        gguf_set_arr_str(g, "tokenizer.ggml.tokens", const_cast<const char**>(tokens.data()), 50);
      },
      StatusCode::kInvalid, "another tokenizer than the target: tokenizer.ggml.tokens");
  refused_key([](gguf_context* g) { gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", 1); },
              StatusCode::kInvalid, "more keys");
  refused_key([](gguf_context* g) { gguf_remove_key(g, "tokenizer.ggml.token_type"); },
              StatusCode::kInvalid, "tokenizer.ggml.token_type differs");
}

TEST_F(DraftCheckTest, DraftVocabulary) {
  TinyDraft draft;
  draft.d2t = {0, 3, 3};
  refused(draft, StatusCode::kCorrupt, "do not rise");
  draft.d2t = {0, 3, 50};
  refused(draft, StatusCode::kCorrupt, "token id 50 in d2t");
  draft.d2t = {-1, 3, 4};
  refused(draft, StatusCode::kCorrupt, "token id -1 in d2t");
  draft.d2t.assign(51, 0);
  refused(draft, StatusCode::kInvalid, "drafts 51 tokens");
  TinyDraft typed;
  typed.types["d2t"] = GGML_TYPE_I32;
  refused(typed, StatusCode::kCorrupt, "tensor d2t of type i32");
  TinyDraft missing;
  missing.left_out = {"d2t"};
  refused(missing, StatusCode::kCorrupt, "no tensor d2t");
}

TEST_F(DraftCheckTest, TensorsMissingOrOfAnotherShape) {
  for (const char* name : {"fc.weight", "blk.0.attn_norm_2.weight", "output.weight"}) {
    TinyDraft draft;
    draft.left_out = {name};
    refused(draft, StatusCode::kCorrupt, std::string("no tensor ") + name);
  }
  TinyDraft narrow;
  narrow.cols["blk.0.ffn_down.weight"] = 64;
  refused(narrow, StatusCode::kInvalid, "tensor blk.0.ffn_down.weight of shape 64 x 64");
  TinyDraft half_norm;
  half_norm.types["output_norm.weight"] = GGML_TYPE_F16;
  refused(half_norm, StatusCode::kCorrupt, "tensor output_norm.weight of type f16");
  TinyDraft whole_numbers;
  whole_numbers.types["blk.0.attn_q.weight"] = GGML_TYPE_I8;
  refused(whole_numbers, StatusCode::kCorrupt, "tensor blk.0.attn_q.weight of type i8");
}

TEST_F(DraftCheckTest, KeysThatLlamaCppAssertsOn) {
  const auto count = [](const char* key, uint32_t value) {
    return [=](gguf_context* g) { gguf_set_val_u32(g, key, value); };
  };
  const auto real = [](const char* key, float value) {
    return [=](gguf_context* g) { gguf_set_val_f32(g, key, value); };
  };
  refused_key(count("eagle3.block_count", 0), StatusCode::kCorrupt, "one layer");
  refused_key(count("eagle3.block_count", 2), StatusCode::kCorrupt, "one layer");
  refused_key(count("eagle3.attention.head_count", 0), StatusCode::kCorrupt, "head_count");
  refused_key(count("eagle3.attention.value_length", 8), StatusCode::kCorrupt, "head sizes");
  refused_key(count("eagle3.rope.dimension_count", 32), StatusCode::kCorrupt, "head sizes");
  refused_key(count("eagle3.expert_count", 4), StatusCode::kInvalid, "eagle3.expert_count");
  refused_key(count("split.count", 2), StatusCode::kInvalid, "split.count");
  refused_key(count("eagle3.target_hidden_size", 65), StatusCode::kInvalid, "target_hidden_size");
  refused_key(count("eagle3.context_length", 0), StatusCode::kCorrupt, "context_length");
  refused_key(real("eagle3.attention.layer_norm_rms_epsilon", -1), StatusCode::kCorrupt, "epsilon");
  refused_key(real("eagle3.attention.layer_norm_rms_epsilon", kNan), StatusCode::kCorrupt,
              "epsilon");
  refused_key(real("eagle3.rope.freq_base", kInf), StatusCode::kCorrupt, "freq_base");
  refused_key(real("eagle3.embedding_length", 64), StatusCode::kCorrupt, "embedding_length");
  refused_key([](gguf_context* g) { gguf_set_val_str(g, "eagle3.rope.scaling.type", "sideways"); },
              StatusCode::kCorrupt, "rope.scaling.type");
  refused_key([](gguf_context* g) { gguf_remove_key(g, "general.architecture"); },
              StatusCode::kCorrupt, "no architecture");
  refused_key([](gguf_context* g) { gguf_remove_key(g, "eagle3.target_layers"); },
              StatusCode::kCorrupt, "target_layers");
}

TEST_F(DraftCheckTest, NumbersThatAreNotFinite) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
    for (const float bad : {kNan, kInf, -kInf}) {
      TinyDraft draft;
      draft.type = type;
      draft.edit_values = [&](const std::string& name, std::vector<float>& values) {
        if (name == "blk.0.ffn_up.weight") values[values.size() - 1] = bad;
      };
      refused(draft, StatusCode::kCorrupt, "not finite in tensor blk.0.ffn_up.weight, row 95");
    }
  }
  TinyDraft norm;
  norm.edit_values = [](const std::string& name, std::vector<float>& values) {
    if (name == "output_norm.weight") values[0] = kNan;
  };
  refused(norm, StatusCode::kCorrupt, "not finite in tensor output_norm.weight, row 0");
}

TEST_F(DraftCheckTest, AScaleThatIsNotFinite) {
  TinyDraft draft;
  draft.type = GGML_TYPE_Q8_0;
  write_tiny_draft(path(), draft);
  std::string bytes = dir_.read("draft.gguf");
  const size_t at = tensor_offset("fc.weight");
  bytes[at] = '\0';  // the first block's scale, fp16: infinity
  bytes[at + 1] = '\x7c';
  dir_.write("draft.gguf", bytes);
  refused(StatusCode::kCorrupt, "not finite in tensor fc.weight, row 0");
}

}  // namespace
}  // namespace aurora
