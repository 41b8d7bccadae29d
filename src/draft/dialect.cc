#include "draft/dialect.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kCountMax = 1 << 30;

struct Names {
  const char* gguf;
  const char* portable;
};
constexpr std::array<Names, 15> kNames = {{
    {"fc.weight", "fc.weight"},
    {"blk.0.attn_norm.weight", "@.input_layernorm.weight"},
    {"blk.0.attn_norm_2.weight", "@.hidden_norm.weight"},
    {"blk.0.attn_q.weight", "@.self_attn.q_proj.weight"},
    {"blk.0.attn_k.weight", "@.self_attn.k_proj.weight"},
    {"blk.0.attn_v.weight", "@.self_attn.v_proj.weight"},
    {"blk.0.attn_output.weight", "@.self_attn.o_proj.weight"},
    {"blk.0.ffn_norm.weight", "@.post_attention_layernorm.weight"},
    {"blk.0.ffn_gate.weight", "@.mlp.gate_proj.weight"},
    {"blk.0.ffn_up.weight", "@.mlp.up_proj.weight"},
    {"blk.0.ffn_down.weight", "@.mlp.down_proj.weight"},
    {"output_norm.weight", "norm.weight"},
    {"output.weight", "lm_head.weight"},
    {"token_embd.weight", "embed_tokens.weight"},
    {"enc.output_norm.weight", "input_norm.weight"},
}};

struct DialectNames {
  Dialect dialect;
  const char* flag;
  const char* architecture;
  const char* layer;
};
constexpr DialectNames kDialects[] = {
    {Dialect::kSpecForge, "specforge", "LlamaForCausalLMEagle3", "midlayer"},
    {Dialect::kVllm, "vllm", "Eagle3LlamaForCausalLM", "layers.0"},
    {Dialect::kSpeculators, "speculators", "Eagle3Speculator", "layers.0"}};

const DialectNames& names_of(Dialect dialect) { return kDialects[static_cast<size_t>(dialect)]; }

// The shortest decimal that reads back as the same float: 1e-05, not 9.9999997e-06.
double decimal(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double out = 0;
  std::from_chars(text, end, out);
  return out;
}

// What a LlamaConfig says of the one layer.
void put_layer(Json& out, const RawDraft& draft) {
  const DraftShape& s = draft.shape;
  out["model_type"] = "llama";
  out["hidden_size"] = s.hidden;
  out["intermediate_size"] = s.ff;
  out["num_hidden_layers"] = 1;
  out["num_attention_heads"] = s.heads;
  out["num_key_value_heads"] = s.kv_heads;
  out["head_dim"] = s.head_dim;
  out["hidden_act"] = "silu";
  out["rms_norm_eps"] = decimal(s.rms_eps);
  out["rope_theta"] = decimal(s.rope_base);
  out["rope_scaling"] = nullptr;
  if (draft.rope_scaling == "linear") {
    out["rope_scaling"] = {{"rope_type", "linear"}, {"factor", decimal(draft.rope_factor)}};
  }
  out["max_position_embeddings"] = s.context;
  out["attention_bias"] = false;
  out["mlp_bias"] = false;
  out["tie_word_embeddings"] = false;
  out["vocab_size"] = s.target_vocab;
}

void put_head(Json& out, const RawDraft& draft) {
  out["draft_vocab_size"] = draft.d2t.size();
  out["target_hidden_size"] = draft.shape.hidden;
  out["norm_before_residual"] = draft.norm_before_residual;
  if (draft.norm_before_fc) out["norm_before_fc"] = true;
  // The layers whose input is taken, as vLLM and llama.cpp number them.
  out["eagle_aux_hidden_state_layer_ids"] = draft.shape.tap_layers;
}

// SGLang numbers the layers whose output is taken.
void put_eagle_config(Json& out, const RawDraft& draft) {
  Json layers = Json::array();
  for (const int layer : draft.shape.tap_layers) layers.push_back(layer - 1);
  out["eagle_config"] = {{"use_aux_hidden_state", true},
                         {"eagle_aux_hidden_state_layer_ids", layers}};
}

void put_speculators(Json& out, const std::string& verifier) {
  out["speculators_model_type"] = "eagle3";
  out["speculators_version"] = "0.3.0";
  Json method = {{"proposal_type", "greedy"},
                 {"speculative_tokens", 3},
                 {"verifier_accept_k", 1},
                 {"accept_tolerance", 0.0}};
  Json target = {{"name_or_path", verifier}, {"architectures", Json::array()}};
  out["speculators_config"] = {{"algorithm", "eagle3"},
                               {"default_proposal_method", "greedy"},
                               {"proposal_methods", Json::array({method})},
                               {"verifier", target}};
}

}  // namespace

std::optional<Dialect> dialect_named(std::string_view name) {
  for (const DialectNames& known : kDialects) {
    if (name == known.flag) return known.dialect;
  }
  return std::nullopt;
}

std::string tensor_name(Dialect dialect, std::string_view gguf_name) {
  for (const Names& names : kNames) {
    if (gguf_name != names.gguf) continue;
    const std::string portable = names.portable;
    return portable[0] == '@' ? names_of(dialect).layer + portable.substr(1) : portable;
  }
  return "";
}

std::string gguf_name_of(std::string name) {
  if (name.starts_with("model.")) name = name.substr(6);
  for (const std::string layer : {"midlayer", "layers.0"}) {
    if (name.starts_with(layer + ".")) name = "@" + name.substr(layer.size());
  }
  for (const Names& names : kNames) {
    if (name == names.portable) return names.gguf;
  }
  return "";
}

Result<std::string> config_json(const RawDraft& draft, Dialect dialect, const std::string& verifier,
                                const std::string& dtype) {
  const bool scaled = draft.rope_scaling != "none" && draft.rope_scaling != "linear";
  if (scaled || draft.tensors.contains("rope_freqs.weight")) {
    return Status::invalid(
        "a draft whose RoPE is scaled otherwise than linearly cannot be exported: give "
        "--format gguf");
  }
  Json out;
  out["architectures"] = {names_of(dialect).architecture};
  if (dialect == Dialect::kSpeculators) {
    put_speculators(out, verifier);
    Json layer;
    put_layer(layer, draft);
    out["transformer_layer_config"] = layer;
  } else {
    put_layer(out, draft);
  }
  put_head(out, draft);
  if (dialect == Dialect::kSpecForge) put_eagle_config(out, draft);
  out["torch_dtype"] = dtype;
  return out.dump(2) + "\n";
}

namespace {

// One config.json. The first thing that is wrong is what is said.
class Config {
 public:
  Config(std::string path, Json json, const DraftShape& target)
      : path_(std::move(path)), json_(std::move(json)), layer_(json_), target_(target) {}

  Result<HeadConfig> read() {
    for (const auto step :
         {&Config::kind, &Config::widths, &Config::variant, &Config::rope, &Config::taps}) {
      if (Status status = (this->*step)(); !status) return status;
    }
    return out_;
  }

 private:
  Status invalid(const std::string& what) const { return Status::invalid(path_ + " " + what); }
  Status corrupt(const std::string& what) const { return Status::corrupt(path_ + " " + what); }

  Status kind() {
    if (!json_.is_object()) return corrupt("is not a JSON object");
    const Json names = json_.value("architectures", Json::array());
    const std::string name = names.is_array() && !names.empty() && names[0].is_string()
                                 ? names[0].get<std::string>()
                                 : "nothing";
    bool known = name == "Eagle3DraftModel";
    for (const DialectNames& dialect : kDialects) known = known || name == dialect.architecture;
    if (!known) {
      return invalid("is of architecture " + name +
                     "; give an EAGLE-3 head: LlamaForCausalLMEagle3, Eagle3LlamaForCausalLM or "
                     "Eagle3Speculator");
    }
    speculators_ = json_.contains("transformer_layer_config");
    if (speculators_ != json_.contains("speculators_model_type")) {
      return invalid(
          "is only half a config of speculators: it needs speculators_model_type and "
          "transformer_layer_config");
    }
    if (!speculators_) return Status::ok();
    if (json_["speculators_model_type"] != "eagle3") return invalid("is not of type eagle3");
    layer_ = json_["transformer_layer_config"];
    if (!layer_.is_object()) return corrupt("has a transformer_layer_config that is no object");
    if (json_.contains("norm_before_residual")) return Status::ok();
    return invalid("does not say norm_before_residual, which decides what the layer computes");
  }

  // fallback below 0: the key must be there.
  Status count(const char* key, int64_t fallback, int& to) const {
    const Json& from = layer_.contains(key) ? layer_ : json_;
    if (!from.contains(key) || from[key].is_null()) {
      if (fallback < 0) return corrupt(std::string("does not say ") + key);
      to = static_cast<int>(fallback);
      return Status::ok();
    }
    const Json& value = from[key];
    const int64_t number = value.is_number_integer() ? value.get<int64_t>() : 0;
    if (number < 1 || number > kCountMax) {
      return corrupt(std::string("has no usable ") + key + ": " + value.dump());
    }
    to = static_cast<int>(number);
    return Status::ok();
  }

  Status widths() {
    DraftShape& s = out_.head.shape;
    int layers = 0, taken = 0, draft_vocab = 0;
    const struct {
      const char* key;
      int64_t fallback;
      int& to;
    } wanted[] = {{"num_hidden_layers", -1, layers},
                  {"hidden_size", -1, s.hidden},
                  {"intermediate_size", -1, s.ff},
                  {"num_attention_heads", -1, s.heads},
                  {"vocab_size", -1, s.target_vocab},
                  {"max_position_embeddings", target_.context, s.context}};
    for (const auto& one : wanted) {
      if (Status status = count(one.key, one.fallback, one.to); !status) return status;
    }
    if (layers != 1)
      return invalid("has " + std::to_string(layers) + " layers, llama.cpp runs one");
    for (const auto& [key, fallback, to] :
         {std::tuple<const char*, int64_t, int*>{"num_key_value_heads", s.heads, &s.kv_heads},
          {"head_dim", s.hidden / s.heads, &s.head_dim},
          {"target_hidden_size", s.hidden, &taken},
          {"draft_vocab_size", s.target_vocab, &draft_vocab}}) {
      if (Status status = count(key, fallback, *to); !status) return status;
    }
    if (s.heads % s.kv_heads != 0) return corrupt("has heads that do not share keys evenly");
    if (s.head_dim < 2 || s.head_dim % 2 != 0) return corrupt("has no usable head_dim");
    if (draft_vocab > s.target_vocab) {
      return invalid("drafts " + std::to_string(draft_vocab) + " tokens of a vocabulary of " +
                     std::to_string(s.target_vocab));
    }
    out_.draft_vocab = draft_vocab;
    s.target_layers = target_.target_layers;
    return fits_target(taken);
  }

  Status fits_target(int taken) const {
    const DraftShape& s = out_.head.shape;
    if (s.hidden != target_.hidden || taken != target_.hidden) {
      const int other = taken != target_.hidden ? taken : s.hidden;
      return invalid("is for a target of width " + std::to_string(other) + ", the target has " +
                     std::to_string(target_.hidden));
    }
    if (s.target_vocab == target_.target_vocab) return Status::ok();
    return invalid("is for a vocabulary of " + std::to_string(s.target_vocab) +
                   " tokens, the target has " + std::to_string(target_.target_vocab));
  }

  // A switch that is not there is off.
  bool is_on(const char* key) const { return json_.contains(key) && json_[key] == true; }

  Status variant() {
    for (const char* key : {"fc_norm", "norm_output"}) {
      if (is_on(key)) return invalid(std::string("has ") + key + ", which llama.cpp cannot run");
    }
    const Json activation = layer_.value("hidden_act", Json("silu"));
    if (activation != "silu") return invalid("has an activation that is not silu");
    out_.head.norm_before_residual = is_on("norm_before_residual");
    out_.head.norm_before_fc = is_on("norm_before_fc");
    const Json eps = layer_.value("rms_norm_eps", Json(1e-6));
    if (!eps.is_number() || !(eps.get<double>() > 0 && eps.get<double>() < 1)) {
      return corrupt("has no usable rms_norm_eps");
    }
    out_.head.shape.rms_eps = static_cast<float>(eps.get<double>());
    return Status::ok();
  }

  static double number(const Json& from, const char* key, double fallback) {
    if (!from.is_object() || !from.contains(key)) return fallback;
    return from[key].is_number() ? from[key].get<double>() : -1;
  }

  // Older configs have rope_theta and rope_scaling, newer ones rope_parameters for both.
  Status rope() {
    const Json parameters = layer_.value("rope_parameters", Json());
    const double base = number(parameters, "rope_theta", number(layer_, "rope_theta", 10000));
    if (!(base > 0 && base < 1e12)) return corrupt("has no usable rope_theta");
    out_.head.shape.rope_base = static_cast<float>(base);
    const Json scaling = parameters.is_object() ? parameters : layer_.value("rope_scaling", Json());
    if (!scaling.is_object()) return Status::ok();
    const Json type = scaling.value("rope_type", scaling.value("type", Json("default")));
    if (type == "default") return Status::ok();
    const double factor = number(scaling, "factor", -1);
    if (!(factor >= 1 && factor < 1e6)) return corrupt("has no usable factor of its rope_scaling");
    out_.head.rope_factor = static_cast<float>(factor);
    if (type == "linear") {
      out_.head.rope_scaling = "linear";
      return Status::ok();
    }
    if (type != "llama3")
      return invalid("scales RoPE by " + type.dump() + ", which is not covered");
    out_.llama3_scaling = true;
    out_.low_freq_factor = number(scaling, "low_freq_factor", 1);
    out_.high_freq_factor = number(scaling, "high_freq_factor", 4);
    out_.original_context = number(scaling, "original_max_position_embeddings", 8192);
    if (out_.low_freq_factor > 0 && out_.high_freq_factor > out_.low_freq_factor &&
        out_.original_context > 0) {
      return Status::ok();
    }
    return corrupt("has no usable rope_scaling");
  }

  // vLLM's ids name layers by their input; SGLang's, in eagle_config, by their output.
  Status taps() {
    const Json eagle = json_.value("eagle_config", Json::object());
    Json ids = json_.value("eagle_aux_hidden_state_layer_ids", Json());
    int shift = 0;
    if (ids.is_null() && eagle.is_object()) {
      ids = eagle.value("eagle_aux_hidden_state_layer_ids", Json());
      shift = 1;
    }
    const int layers = target_.target_layers;
    if (ids.is_null()) ids = {2 - shift, layers / 2 - shift, layers - 3 - shift};
    if (!ids.is_array() || ids.size() != 3) return invalid("does not tap three layers");
    for (size_t i = 0; i < 3; ++i) {
      const int64_t id = ids[i].is_number_integer() ? ids[i].get<int64_t>() : -kCountMax;
      if (id + shift < 0 || id + shift >= layers) {
        return invalid("taps layer " + ids[i].dump() + " of a target with " +
                       std::to_string(layers));
      }
      out_.head.shape.tap_layers[i] = static_cast<int>(id) + shift;
    }
    return Status::ok();
  }

  const std::string path_;
  Json json_;
  Json layer_;  // where the shape of the layer stands
  const DraftShape& target_;
  bool speculators_ = false;
  HeadConfig out_;
};

}  // namespace

Result<HeadConfig> read_config(const std::string& path, const std::string& text,
                               const DraftShape& target) {
  try {
    Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return Status::corrupt(path + " is not JSON");
    return Config(path, std::move(json), target).read();
  } catch (const nlohmann::json::exception& error) {  // a value of another kind than asked for
    return Status::corrupt(path + " cannot be read: " + error.what());
  }
}

}  // namespace aurora
