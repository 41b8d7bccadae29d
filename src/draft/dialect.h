// How others name what a draft is: the config.json and the tensor names of EAGLE-3 heads in
// SpecForge's, vLLM's and vllm-project/speculators' checkpoints. docs/draft-files.md has the
// tables.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "draft/raw_draft.h"

namespace aurora {

enum class Dialect {
  kSpecForge,    // LlamaForCausalLMEagle3
  kVllm,         // Eagle3LlamaForCausalLM
  kSpeculators,  // Eagle3Speculator
};

std::optional<Dialect> dialect_named(std::string_view name);  // "specforge", "vllm", "speculators"

// "blk.0.attn_q.weight" in the dialect: "midlayer.self_attn.q_proj.weight". Empty: it has none.
std::string tensor_name(Dialect dialect, std::string_view gguf_name);
// The GGUF name of a tensor of any dialect. Empty: unknown.
std::string gguf_name_of(std::string tensor_name);

// invalid: a variant that the dialect cannot say. verifier: the target's name at Hugging Face,
// which speculators' config has a place for; may be empty. dtype: as torch calls it, "float32".
Result<std::string> config_json(const RawDraft& draft, Dialect dialect, const std::string& verifier,
                                const std::string& dtype);

struct HeadConfig {
  RawDraft head;  // shape and variant; no tensors yet
  int64_t draft_vocab = 0;
  bool llama3_scaling = false;  // of RoPE's frequencies, by head.rope_factor and these
  double low_freq_factor = 1, high_freq_factor = 4, original_context = 8192;
};

// `path` is for the sentences. What the config leaves out is the target's, or the default of the
// programs that read it. corrupt: not JSON, impossible numbers. invalid: no EAGLE-3 head, one that
// llama.cpp cannot run, or one for a target of another shape.
Result<HeadConfig> read_config(const std::string& path, const std::string& json,
                               const DraftShape& target);

}  // namespace aurora
