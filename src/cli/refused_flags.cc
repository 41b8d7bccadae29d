#include "cli/refused_flags.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace aurora {
namespace {

struct Refusal {
  std::vector<std::string_view> flags;  // with a * at the end: all that begin so
  std::vector<std::string_view> variables;
  std::string_view why;
};

// What the flywheel cannot serve yet: refused before the model is loaded, never half working.
const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> list = {
      {{"-md", "--model-draft", "--spec-draft-model", "-hfd", "-hfrd", "--hf-repo-draft",
        "--spec-draft-hf"},
       {"LLAMA_ARG_SPEC_DRAFT_MODEL", "LLAMA_ARG_SPEC_DRAFT_HF_REPO"},
       "the draft is trained here; start from your own with --init FILE"},
      {{"--spec-draft-n-max", "--draft", "--draft-n", "--draft-max"},
       {"LLAMA_ARG_SPEC_DRAFT_N_MAX", "LLAMA_ARG_DRAFT_MAX"},
       "give --draft-depth N"},
      {{"--spec-draft-p-min"}, {"LLAMA_ARG_SPEC_DRAFT_P_MIN"}, "give --draft-p-min P"},
      {{"--spec-*",
        "--eagle3",
        "--mtp",
        "--draft-min",
        "--draft-n-min",
        "--draft-p-split",
        "-td",
        "--threads-draft",
        "-tbd",
        "--threads-batch-draft",
        "-ctkd",
        "--cache-type-k-draft",
        "-ctvd",
        "--cache-type-v-draft",
        "-devd",
        "--device-draft",
        "-ngld",
        "--gpu-layers-draft",
        "--n-gpu-layers-draft",
        "-otd",
        "--override-tensor-draft",
        "-cmoed",
        "--cpu-moe-draft",
        "-ncmoed",
        "--n-cpu-moe-draft"},
       {"LLAMA_ARG_SPEC_*", "LLAMA_ARG_DRAFT_*", "LLAMA_ARG_N_GPU_LAYERS_DRAFT"},
       "aurora serve has one speculator; leave it out"},
      {{"--lora", "--lora-scaled"},
       {},
       "a draft follows one target; merge the adapter into the model file first"},
      {{"--control-vector", "--control-vector-scaled"},
       {},
       "a draft follows one target, and this makes another of it; serve it with llama-server"},
      {{"--context-shift"},
       {"LLAMA_ARG_CONTEXT_SHIFT"},
       "shifted cells have no taps to learn from; raise -c"},
      {{"--cache-reuse"},
       {"LLAMA_ARG_CACHE_REUSE"},
       "shifted cells have no taps to learn from; the plain prompt cache stays on"},
      {{"-bs", "--backend-sampling"},
       {"LLAMA_ARG_BACKEND_SAMPLING"},
       "the law of each position is read from its logits; leave it out"},
      {{"-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-dr",
        "--docker-repo", "--embd-gemma-default", "--fim-qwen-*", "--gpt-oss-*", "--vision-gemma-*"},
       {"LLAMA_ARG_HF_REPO", "LLAMA_ARG_HF_FILE", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_DOCKER_REPO"},
       "download the model first and give -m FILE"},
      {{"--models-dir", "--models-preset"},
       {"LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET"},
       "aurora serves one target a process; give -m FILE"},
  };
  return list;
}

bool names(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

Status refused(std::string_view name, std::string_view why) {
  return Status::invalid(std::string(name) + " does not go with aurora serve: " + std::string(why));
}

bool is_off(std::string_view value) {
  constexpr std::array<std::string_view, 6> kOff = {"", "0", "off", "false", "disabled", "none"};
  return std::find(kOff.begin(), kOff.end(), value) != kOff.end();
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string all;
  for (const std::string_view word : words) all += (all.empty() ? "" : " ") + std::string(word);
  return all;
}

}  // namespace

Status check_server_flag(const std::string& arg) {
  if (!arg.starts_with('-')) return Status::ok();
  std::string flag = arg.substr(0, arg.find('='));
  // llama-server takes --cache_reuse too.
  if (flag.starts_with("--")) std::replace(flag.begin(), flag.end(), '_', '-');
  for (const Refusal& refusal : refusals())
    for (const std::string_view pattern : refusal.flags)
      if (names(pattern, flag)) return refused(flag, refusal.why);
  return Status::ok();
}

Status check_server_variables() {
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || is_off(text.substr(equals + 1))) continue;
    for (const Refusal& refusal : refusals())
      for (const std::string_view pattern : refusal.variables)
        if (names(pattern, text.substr(0, equals)))
          return refused(text.substr(0, equals), refusal.why);
  }
  return Status::ok();
}

std::string refused_flags_help() {
  std::string text;
  for (const Refusal& refusal : refusals()) {
    text += "  " + joined(refusal.flags);
    if (!refusal.variables.empty()) text += " (" + joined(refusal.variables) + ")";
    text += "\n      " + std::string(refusal.why) + "\n";
  }
  return text;
}

}  // namespace aurora
