// Drafts to the files of other programs and back, and what of theirs cannot come in.
#include "draft/head_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "draft/draft_file_maker.h"
#include "draft/draft_tensors.h"
#include "registry/temp_dir.h"

namespace aurora {
namespace {

using Json = nlohmann::json;

constexpr Dialect kDialects[] = {Dialect::kSpecForge, Dialect::kVllm, Dialect::kSpeculators};

class HeadFiles : public testing::Test {
 protected:
  HeadFiles() {
    ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  }

  // Every value another one, so that a row in the wrong place shows.
  RawDraft draft(ggml_type type, const std::function<void(gguf_context*)>& edit = {}) const {
    TinyDraft tiny;
    tiny.type = type;
    if (edit) tiny.edit_keys = edit;
    int next = 0;
    tiny.edit_values = [&next](const std::string&, std::vector<float>& values) {
      for (float& value : values) value = static_cast<float>(next++ * 7919 % 30011) / 15000 - 1;
    };
    write_tiny_draft(gguf(), tiny);
    auto out = read_raw_draft(gguf());
    EXPECT_TRUE(out) << out.status().to_string();
    return *out;
  }

  std::string gguf() const { return dir_.file("draft.gguf"); }
  std::string head() const { return dir_.file("head"); }
  DraftShape target() const {
    DraftShape shape;
    shape.hidden = 64;
    shape.target_vocab = 50;
    shape.target_layers = 6;
    shape.context = 2048;
    return shape;
  }

  void export_sound(const RawDraft& from, const ExportOptions& options = {}) const {
    std::filesystem::remove_all(head());
    const Status status = export_head(from, head(), options);
    ASSERT_TRUE(status) << status.to_string();
  }

  Json config() const { return Json::parse(dir_.read("head/config.json")); }
  void write_config(const Json& json) const { dir_.write("head/config.json", json.dump()); }

  void refused(const std::string& words) const {
    const auto in = import_head(head(), target(), std::nullopt);
    ASSERT_FALSE(in) << "accepted, expected: " << words;
    const std::string& why = in.status().message();
    EXPECT_NE(why.find(words), std::string::npos) << why << "\nexpected: " << words;
    EXPECT_TRUE(why.starts_with(head())) << why;
    EXPECT_EQ(why.find('\n'), std::string::npos) << why;
  }
  // The exported head with one value of its config changed.
  void refused_config(const std::string& pointer, const Json& value, const std::string& words) {
    const Json whole = config();
    Json changed = whole;
    changed[Json::json_pointer(pointer)] = value;
    write_config(changed);
    refused(words);
    write_config(whole);
  }
  // The exported head with its tensors changed.
  void refused_tensors(const std::function<void(std::vector<SafeTensor>&)>& edit,
                       const std::string& words) const {
    const std::string whole = dir_.read("head/model.safetensors");
    {
      const auto file = SafetensorsFile::open(head() + "/model.safetensors");
      ASSERT_TRUE(file);
      std::vector<SafeTensor> tensors = file->tensors();
      edit(tensors);
      ASSERT_TRUE(write_safetensors(head() + "/model.safetensors", tensors, {}));
    }
    refused(words);
    dir_.write("head/model.safetensors", whole);
  }

  const TempDir dir_;
};

SafeTensor& named(std::vector<SafeTensor>& tensors, const std::string& name) {
  for (SafeTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors[0];
}

void expect_equal(const RawDraft& a, const RawDraft& b, const std::string& what) {
  EXPECT_EQ(a.d2t, b.d2t) << what;
  EXPECT_EQ(a.tensors.size(), b.tensors.size()) << what;
  for (const auto& [name, tensor] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << what << " " << name;
    EXPECT_EQ(tensor.type, b.tensors.at(name).type) << what << " " << name;
    EXPECT_EQ(tensor.bytes, b.tensors.at(name).bytes) << what << " " << name;
  }
  EXPECT_EQ(a.shape.hidden, b.shape.hidden);
  EXPECT_EQ(a.shape.heads, b.shape.heads);
  EXPECT_EQ(a.shape.kv_heads, b.shape.kv_heads);
  EXPECT_EQ(a.shape.head_dim, b.shape.head_dim);
  EXPECT_EQ(a.shape.ff, b.shape.ff);
  EXPECT_EQ(a.shape.context, b.shape.context);
  EXPECT_EQ(a.shape.target_vocab, b.shape.target_vocab);
  EXPECT_EQ(a.shape.rms_eps, b.shape.rms_eps);
  EXPECT_EQ(a.shape.rope_base, b.shape.rope_base);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(a.shape.tap_layers[i], b.shape.tap_layers[i]) << what;
  EXPECT_EQ(a.norm_before_residual, b.norm_before_residual);
  EXPECT_EQ(a.norm_before_fc, b.norm_before_fc);
  EXPECT_EQ(a.rope_scaling, b.rope_scaling);
  EXPECT_EQ(a.rope_factor, b.rope_factor);
}

TEST_F(HeadFiles, RoundTripsAreEqualToTheBit) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
    const RawDraft before = draft(type);
    for (const Dialect dialect : kDialects) {
      export_sound(before, {.dialect = dialect, .type = {}, .verifier = "org/target"});
      const auto after = import_head(head(), target(), std::nullopt);
      ASSERT_TRUE(after) << after.status().to_string();
      expect_equal(before, *after, ggml_type_name(type));
      EXPECT_EQ(after->shape.target_layers, 6);
    }
  }
}

TEST_F(HeadFiles, VariantsThatLlamaCppRunsComeBack) {
  const RawDraft before = draft(GGML_TYPE_F32, [](gguf_context* g) {
    gguf_set_val_bool(g, "eagle3.norm_before_residual", true);
    gguf_set_val_str(g, "eagle3.rope.scaling.type", "linear");
    gguf_set_val_f32(g, "eagle3.rope.scaling.factor", 2.5f);
  });
  ASSERT_TRUE(before.norm_before_residual);
  for (const Dialect dialect : kDialects) {
    export_sound(before, {.dialect = dialect, .type = {}, .verifier = ""});
    const auto after = import_head(head(), target(), std::nullopt);
    ASSERT_TRUE(after) << after.status().to_string();
    expect_equal(before, *after, "variant");
  }
  EXPECT_EQ(read_raw_draft(gguf())->rope_factor, 2.5f);
}

// Facts of the dialects, not of our own reader.
TEST_F(HeadFiles, WhatADialectLooksLike) {
  const RawDraft from = draft(GGML_TYPE_F16);  // taps the inputs of layers 1, 2, 5
  export_sound(from);
  EXPECT_EQ(config()["architectures"], Json::array({"LlamaForCausalLMEagle3"}));
  EXPECT_EQ(config()["eagle_config"]["eagle_aux_hidden_state_layer_ids"], Json::array({0, 1, 4}));
  EXPECT_EQ(config()["num_hidden_layers"], 1);
  EXPECT_EQ(config()["draft_vocab_size"], 6);
  EXPECT_EQ(config()["vocab_size"], 50);
  EXPECT_EQ(config()["torch_dtype"], "float16");
  EXPECT_EQ(config()["rms_norm_eps"].dump(), "1e-05");
  const auto file = SafetensorsFile::open(head() + "/model.safetensors");
  ASSERT_TRUE(file);
  const SafeTensor* d2t = file->find("d2t");
  ASSERT_TRUE(d2t && d2t->type == SafeType::kI64);
  std::vector<int64_t> offsets(6);
  std::memcpy(offsets.data(), d2t->data.data(), d2t->data.size());
  EXPECT_EQ(offsets, (std::vector<int64_t>{0, 2, 2, 14, 44, 44}));  // of 0, 3, 4, 17, 48, 49
  ASSERT_NE(file->find("t2d"), nullptr);
  EXPECT_EQ(file->find("t2d")->data[17], std::byte{1});
  EXPECT_EQ(file->find("t2d")->data[18], std::byte{0});
  ASSERT_NE(file->find("midlayer.self_attn.q_proj.weight"), nullptr);
  EXPECT_EQ(file->find("midlayer.self_attn.q_proj.weight")->shape, (std::vector<int64_t>{64, 128}));

  export_sound(from, {.dialect = Dialect::kVllm, .type = SafeType::kBf16, .verifier = ""});
  EXPECT_EQ(config()["architectures"], Json::array({"Eagle3LlamaForCausalLM"}));
  EXPECT_EQ(config()["eagle_aux_hidden_state_layer_ids"], Json::array({1, 2, 5}));
  EXPECT_EQ(config()["torch_dtype"], "bfloat16");

  export_sound(from, {.dialect = Dialect::kSpeculators, .type = {}, .verifier = "org/target"});
  EXPECT_EQ(config()["speculators_model_type"], "eagle3");
  EXPECT_EQ(config()["transformer_layer_config"]["hidden_size"], 64);
  EXPECT_EQ(config()["speculators_config"]["verifier"]["name_or_path"], "org/target");
  EXPECT_EQ(config()["norm_before_residual"], false);
  const auto layers = SafetensorsFile::open(head() + "/model.safetensors");
  EXPECT_NE(layers->find("layers.0.mlp.down_proj.weight"), nullptr);
}

// Row i of a head's first half and row i of its second are the pair that RoPE turns.
TEST_F(HeadFiles, RowsOfQAndKLieInHalves) {
  const RawDraft from = draft(GGML_TYPE_F32);
  export_sound(from);
  const auto file = SafetensorsFile::open(head() + "/model.safetensors");
  ASSERT_TRUE(file);
  const auto row = [](std::span<const std::byte> bytes, int at) {
    std::vector<float> out(128);
    std::memcpy(out.data(), bytes.data() + at * 512, 512);
    return out;
  };
  for (const auto& [name, ours, heads] :
       {std::tuple("midlayer.self_attn.q_proj.weight", "blk.0.attn_q.weight", 4),
        std::tuple("midlayer.self_attn.k_proj.weight", "blk.0.attn_k.weight", 2)}) {
    const auto& gguf_bytes = from.tensors.at(ours).bytes;
    for (int head_at = 0; head_at < heads; ++head_at) {
      for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(row(file->find(name)->data, head_at * 16 + i),
                  row(gguf_bytes, head_at * 16 + 2 * i));
        EXPECT_EQ(row(file->find(name)->data, head_at * 16 + 8 + i),
                  row(gguf_bytes, head_at * 16 + 2 * i + 1));
      }
    }
  }
}

TEST_F(HeadFiles, WhatOthersLeaveOut) {
  export_sound(draft(GGML_TYPE_F32));
  Json json = config();
  for (const char* key : {"target_hidden_size", "max_position_embeddings", "norm_before_residual",
                          "eagle_aux_hidden_state_layer_ids", "eagle_config", "head_dim"})
    json.erase(key);
  json["rope_parameters"] = {{"rope_theta", 500.0}, {"rope_type", "default"}};
  write_config(json);
  auto in = import_head(head(), target(), std::nullopt);
  ASSERT_TRUE(in) << in.status().to_string();
  EXPECT_EQ(in->shape.tap_layers[0], 2);  // the defaults of vLLM and SGLang: 2, n/2, n-3
  EXPECT_EQ(in->shape.tap_layers[1], 3);
  EXPECT_EQ(in->shape.tap_layers[2], 3);
  EXPECT_EQ(in->shape.rope_base, 500.0f);
  json["eagle_config"] = {{"eagle_aux_hidden_state_layer_ids", {0, 2, 4}}};
  write_config(json);
  in = import_head(head() + "/model.safetensors", target(), GGML_TYPE_Q8_0);
  ASSERT_TRUE(in) << in.status().to_string();
  EXPECT_EQ(in->shape.tap_layers[2], 5);
  EXPECT_EQ(in->tensors.at("fc.weight").type, GGML_TYPE_Q8_0);
  EXPECT_EQ(in->tensors.at("output_norm.weight").type, GGML_TYPE_F32);
}

// llama.cpp divides each pair's angle by its factor: short waves by 1, long ones by `factor`.
TEST_F(HeadFiles, Llama3ScalingBecomesFactors) {
  export_sound(draft(GGML_TYPE_F32));
  Json json = config();
  json["rope_theta"] = 500000.0;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 8192}};
  write_config(json);
  const auto in = import_head(head(), target(), std::nullopt);
  ASSERT_TRUE(in) << in.status().to_string();
  std::vector<float> factors(8);
  const auto& bytes = in->tensors.at("rope_freqs.weight").bytes;
  ASSERT_EQ(bytes.size(), 32u);
  std::memcpy(factors.data(), bytes.data(), 32);
  EXPECT_EQ(factors[0], 1.0f);
  EXPECT_EQ(factors[7], 8.0f);
  // Pair 4: 8192 / (2 pi 500000^0.5) = 1.8438 waves; smooth 0.28128; 1 / (0.71872 / 8 + 0.28128).
  EXPECT_NEAR(factors[4], 2.6944f, 1e-3f);
  EXPECT_EQ(export_head(*in, dir_.file("again"), {}).code(), StatusCode::kInvalid);
  EXPECT_FALSE(dir_.has("again"));
}

TEST_F(HeadFiles, WrongDialectsAndVariants) {
  export_sound(draft(GGML_TYPE_F32));
  refused_config("/architectures/0", "LlamaForCausalLM",
                 "is of architecture LlamaForCausalLM; give");
  refused_config("/architectures", Json::array(), "is of architecture nothing");
  refused_config("/speculators_model_type", "eagle3", "half a config");
  refused_config("/fc_norm", true, "has fc_norm, which llama.cpp cannot run");
  refused_config("/norm_output", true, "has norm_output");
  refused_config("/hidden_act", "gelu", "not silu");
  refused_config("/num_hidden_layers", 2, "has 2 layers");
  refused_config("/rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}},
                 "scales RoPE by \"yarn\"");
  dir_.write("head/config.json", "{");
  refused("is not JSON");
  export_sound(draft(GGML_TYPE_F32),
               {.dialect = Dialect::kSpeculators, .type = {}, .verifier = ""});
  refused_config("/speculators_model_type", "dflash", "not of type eagle3");
  Json json = config();
  json.erase("norm_before_residual");
  write_config(json);
  refused("does not say norm_before_residual");
}

TEST_F(HeadFiles, ImpossibleNumbers) {
  export_sound(draft(GGML_TYPE_F32));
  refused_config("/num_key_value_heads", 0, "has no usable num_key_value_heads: 0");
  refused_config("/num_key_value_heads", 3, "do not share keys evenly");
  refused_config("/head_dim", 15, "head_dim");
  refused_config("/hidden_size", "64", "has no usable hidden_size: \"64\"");
  refused_config("/intermediate_size", -1, "intermediate_size");
  refused_config("/vocab_size", 1e300, "vocab_size");
  refused_config("/rms_norm_eps", 0, "rms_norm_eps");
  refused_config("/rope_theta", -1, "rope_theta");
  refused_config("/rope_scaling", {{"rope_type", "linear"}}, "factor");
  refused_config("/draft_vocab_size", 51, "drafts 51 tokens of a vocabulary of 50");
  refused_config("/eagle_aux_hidden_state_layer_ids", {1, 2}, "three layers");
  refused_config("/eagle_aux_hidden_state_layer_ids", {1, 2, 6}, "taps layer 6 of a target with 6");
}

TEST_F(HeadFiles, AnotherTargetsHead) {
  export_sound(draft(GGML_TYPE_F32));
  refused_config("/hidden_size", 128, "for a target of width 128, the target has 64");
  refused_config("/target_hidden_size", 96, "for a target of width 96, the target has 64");
  refused_config("/vocab_size", 49, "vocabulary of 49 tokens, the target has 50");
}

TEST_F(HeadFiles, TensorsThatDoNotFit) {
  export_sound(draft(GGML_TYPE_F32));
  const auto without = [](const char* name) {
    return [name](std::vector<SafeTensor>& tensors) {
      std::erase_if(tensors, [name](const SafeTensor& t) { return t.name == name; });
    };
  };
  refused_tensors(without("midlayer.mlp.up_proj.weight"), "has no tensor midlayer.mlp.up_proj");
  refused_tensors(without("d2t"), "has no tensor d2t");
  refused_tensors([](auto& t) { named(t, "norm.weight").name = "midlayer.self_attn.q_proj.bias"; },
                  "has the tensor midlayer.self_attn.q_proj.bias, which");
  refused_tensors([](auto& t) { named(t, "norm.weight").name = "input_norm.weight"; },
                  "its config no norm_before_fc");
  refused_tensors(
      [](auto& t) {
        named(t, "fc.weight").shape = {192, 64};
      },
      "fc.weight of shape 192 x 64, expected 64 x 192");
  refused_tensors([](auto& t) { named(t, "norm.weight").type = SafeType::kI32; }, "whole numbers");
  static const int64_t far[] = {0, 2, 2, 14, 44, 45};
  static const int64_t twice[] = {0, 2, 1, 14, 44, 44};
  refused_tensors([](auto& t) { named(t, "d2t").data = std::as_bytes(std::span(far)); },
                  "leaves the target's vocabulary");
  refused_tensors([](auto& t) { named(t, "d2t").data = std::as_bytes(std::span(twice)); },
                  "do not rise");
  static const std::byte none[50] = {};
  refused_tensors([](auto& t) { named(t, "t2d").data = none; }, "contradicts its d2t at token 0");
  const std::string whole = dir_.read("head/model.safetensors");
  dir_.write("head/model.safetensors", whole.substr(0, whole.size() / 2));
  refused("ends before its tensor");
  std::filesystem::remove(head() + "/model.safetensors");
  refused("holds no .safetensors file");
}

TEST_F(HeadFiles, NothingIsOverwrittenAndNothingLeftBehind) {
  const RawDraft from = draft(GGML_TYPE_F32);
  dir_.write("plain", "a file");
  EXPECT_FALSE(export_head(from, dir_.file("plain"), {}));
  EXPECT_EQ(dir_.read("plain"), "a file");
  export_sound(from);
  const std::string before = dir_.read("head/model.safetensors");
  EXPECT_EQ(export_head(draft(GGML_TYPE_F16), head(), {}).code(), StatusCode::kExists);
  EXPECT_EQ(dir_.read("head/model.safetensors"), before);
}

}  // namespace
}  // namespace aurora
