#include "cli/drafts_options.h"

#include <filesystem>

#include "cli/state_dir.h"
#include "registry/registry.h"
#include "registry/target_fingerprint.h"

namespace aurora {
namespace {

CommandLine of_versions(DraftsOptions& o, const char* name, const char* word, const char* about) {
  return {
      std::string("aurora drafts ") + name,
      std::string("-m TARGET.gguf | --state DIR") + word,
      about,
      {text_flag("-m, --model", "FILE",
                 "the target: the state folder is the one that aurora serve uses for it", o.model),
       text_flag("--state", "DIR", "the state folder", o.state), help_flag(o.help)},
      &o.words};
}

Flag json_flag(DraftsOptions& o) {
  return switch_flag("--json", "JSON instead of a table", o.json);
}

std::vector<Flag> head_flags(HeadOptions& o, const char* types) {
  return {
      text_flag("-o, --output", o.exports ? "DIR" : "FILE", "where to", o.output),
      {"--type", types, "of the matrices; left out, they stay as they are", types, "", "",
       [&o](const std::string& v) {
         if (v == "f32") o.type = GGML_TYPE_F32, o.dialect.type = SafeType::kF32;
         else if (v == "f16") o.type = GGML_TYPE_F16, o.dialect.type = SafeType::kF16;
         else if (v == "bf16") o.type = GGML_TYPE_BF16, o.dialect.type = SafeType::kBf16;
         else if (v == "q8_0") o.type = GGML_TYPE_Q8_0;
         else return false;
         return true;
       }},
      help_flag(o.help),
  };
}

}  // namespace

CommandLine drafts_list_command(DraftsOptions& o) {
  CommandLine line = of_versions(
      o, "list", " [--json]",
      "The versions that are there, the newest last: accept length on held-out requests (replay) "
      "and in service (live), and the last verdict.");
  line.flags.insert(line.flags.end() - 1, json_flag(o));
  return line;
}

CommandLine drafts_show_command(DraftsOptions& o) {
  CommandLine line =
      of_versions(o, "show", " VERSION [--json]",
                  "One version: where it comes from, why it was published, what serving found.");
  line.flags.insert(line.flags.end() - 1, json_flag(o));
  return line;
}

CommandLine drafts_pin_command(DraftsOptions& o) {
  return of_versions(o, "pin", " VERSION",
                     "Servers of this state folder draft with this version alone, from the next "
                     "step on, until `aurora drafts unpin`. Training goes on; nothing is removed.");
}

CommandLine drafts_unpin_command(DraftsOptions& o) {
  return of_versions(o, "unpin", "", "Newer versions are tried and served again.");
}

CommandLine drafts_rollback_command(DraftsOptions& o) {
  return of_versions(o, "rollback", " [VERSION]",
                     "Puts the version in service away and pins the one before it, or VERSION.");
}

CommandLine drafts_rm_command(DraftsOptions& o) {
  return of_versions(o, "rm", " VERSION",
                     "Removes the weights of a version that is neither pinned nor in service. Its "
                     "manifest stays: a number is never used again.");
}

Result<DraftsOptions> parse_drafts_options(CommandLine (*command)(DraftsOptions&), VersionWord word,
                                           const std::vector<std::string>& args) {
  DraftsOptions o;
  if (Status s = parse_flags(command(o), args); !s) return s;
  if (o.help) return o;
  for (const std::string& text : o.words)
    if (word == VersionWord::kNone || o.version != 0 ||
        !parse_number<int64_t>(text, 1, kDraftVersionMax, o.version))
      return Status::invalid("'" + text + "' is not known here; give " +
                             (word == VersionWord::kNone ? "flags alone" : "one version"));
  if (word == VersionWord::kMust && o.version == 0)
    return Status::invalid("give the version; aurora drafts list shows them");
  if (o.model.empty() == o.state.empty())
    return Status::invalid("give the target by -m TARGET.gguf, or its folder by --state DIR");
  return o;
}

Result<std::string> state_of(const std::string& model, const std::string& state) {
  if (!state.empty()) return state;
  const auto fingerprint = target_fingerprint(model);
  if (!fingerprint) return fingerprint.status();
  const std::string found = default_state(*fingerprint);
  if (found.empty()) return Status::invalid("no HOME to look below; give the folder by --state");
  return found;
}

Result<std::string> drafts_folder(const DraftsOptions& options) {
  const auto state = state_of(options.model, options.state);
  if (!state) return state.status();
  if (!std::filesystem::is_directory(*state + "/drafts"))
    return Status::not_found("no draft has been published in " + *state);
  return *state + "/drafts";
}

CommandLine drafts_export_command(HeadOptions& o) {
  o.exports = true;
  CommandLine line = {
      "aurora drafts export", "DRAFT.gguf -o DIR [flags]",
      "A draft for other programs: model.safetensors and config.json for SGLang (specforge), vLLM "
      "or vllm-project/speculators, or draft.gguf, into a folder that has none yet.",
      head_flags(o, "f32|f16|bf16|q8_0"), &o.words};
  const auto before_help = [&line](Flag flag) {
    line.flags.insert(line.flags.end() - 1, std::move(flag));
  };
  before_help(choice_flag("--format", "q8_0 is for gguf alone", o.to_gguf,
                          {{"safetensors", false}, {"gguf", true}}));
  before_help(choice_flag("--dialect", "names and settings of that program", o.dialect.dialect,
                          {{"specforge", Dialect::kSpecForge},
                           {"vllm", Dialect::kVllm},
                           {"speculators", Dialect::kSpeculators}}));
  before_help(text_flag("--verifier", "NAME",
                        "the target's name at Hugging Face, for speculators' config",
                        o.dialect.verifier));
  return line;
}

CommandLine drafts_import_command(HeadOptions& o) {
  CommandLine line = {"aurora drafts import", "FILE|DIR -o OUT.gguf [flags]",
                      "A head of SGLang, vLLM or speculators (its folder or .safetensors file), or "
                      "a draft in GGUF, "
                      "becomes a draft of ours.",
                      head_flags(o, "f32|f16|bf16|q8_0"), &o.words};
  line.flags.insert(line.flags.end() - 1,
                    text_flag("-m, --model", "FILE",
                              "the target that it is for, which safetensors need: the draft "
                              "takes its tokenizer",
                              o.target));
  return line;
}

Result<HeadOptions> parse_head_options(CommandLine (*command)(HeadOptions&),
                                       const std::vector<std::string>& args) {
  HeadOptions o;
  if (Status s = parse_flags(command(o), args); !s) return s;
  if (o.help) return o;
  if (o.type == GGML_TYPE_Q8_0 && o.exports && !o.to_gguf)
    return Status::invalid("q8_0 is no --type of safetensors; add --format gguf, or give another");
  if (o.words.empty()) return Status::invalid("give the draft; aurora drafts --help");
  if (o.words.size() > 1)
    return Status::invalid("one file at a time: '" + o.words[1] + "' is the second");
  if (o.output.empty()) return Status::invalid("say where to by -o; aurora drafts --help");
  o.input = o.words.front();
  return o;
}

}  // namespace aurora
