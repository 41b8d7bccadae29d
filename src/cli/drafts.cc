// `aurora drafts`: heads of other programs become drafts of ours, and ours theirs; list is in
// drafts_list.cc.
#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/drafts_list.h"
#include "draft/draft_tensors.h"
#include "draft/head_files.h"
#include "draft/model_files.h"

namespace aurora {
namespace {

constexpr const char* kUsage =
    "usage: aurora drafts export DRAFT.gguf -o DIR [--format safetensors|gguf]\n"
    "           [--dialect specforge|vllm|speculators] [--type f32|f16|bf16] [--verifier NAME]\n"
    "       aurora drafts import FILE|DIR -o OUT.gguf [-m TARGET.gguf]\n"
    "           [--type f32|f16|bf16|q8_0]\n"
    "       aurora drafts list -m TARGET.gguf | --state DIR  [--json] [VERSION]\n\n"
    "export: model.safetensors and config.json for SGLang (specforge, the default), vLLM (vllm) "
    "or\n"
    "        vllm-project/speculators, or draft.gguf, into a folder that has none yet.\n"
    "        --verifier: the target's name at Hugging Face, for speculators' config.\n"
    "import: such a folder, its .safetensors file, or a draft in GGUF. -m: the target it is for,\n"
    "        which safetensors need: the draft takes its tokenizer.\n"
    "--type: of the matrices; left out, they stay as they are.\n";

struct Options {
  bool exports = false, help = false, to_gguf = false;
  std::string input, output, target;
  ExportOptions dialect;
  std::optional<ggml_type> type;
};

Status set_type(const std::string& name, Options& o) {
  if (name == "f32") o.type = GGML_TYPE_F32, o.dialect.type = SafeType::kF32;
  else if (name == "f16") o.type = GGML_TYPE_F16, o.dialect.type = SafeType::kF16;
  else if (name == "bf16") o.type = GGML_TYPE_BF16, o.dialect.type = SafeType::kBf16;
  else if (name == "q8_0" && (!o.exports || o.to_gguf)) o.type = GGML_TYPE_Q8_0;
  else return Status::invalid("'" + name + "' is no --type here; aurora drafts --help lists them");
  return Status::ok();
}

Status set_flag(const std::string& name, const std::string& value, Options& o) {
  const auto dialect = dialect_named(value);
  if (name == "-o" || name == "--output") o.output = value;
  else if (name == "--type") return set_type(value, o);
  else if (!o.exports && (name == "-m" || name == "--model")) o.target = value;
  else if (o.exports && name == "--verifier") o.dialect.verifier = value;
  else if (o.exports && name == "--format" && (value == "gguf" || value == "safetensors"))
    o.to_gguf = value == "gguf";
  else if (o.exports && name == "--dialect" && dialect) o.dialect.dialect = *dialect;
  else return Status::invalid("'" + name + " " + value + "' is not known; aurora drafts --help");
  return Status::ok();
}

Result<Options> parse(const std::vector<std::string>& args) {
  Options o;
  for (const std::string& arg : args) o.help = o.help || arg == "--help" || arg == "-h";
  if (o.help) return o;
  if (args.empty() || (args[0] != "export" && args[0] != "import"))
    return Status::invalid("say list, export or import; aurora drafts --help");
  o.exports = args[0] == "export";
  for (size_t i = 1; i < args.size(); ++i) {
    if (args[i].starts_with("-")) {
      if (i + 1 == args.size()) return Status::invalid(args[i] + " needs a value behind it");
      if (Status status = set_flag(args[i], args[i + 1], o); !status) return status;
      ++i;
    } else if (o.input.empty()) {
      o.input = args[i];
    } else {
      return Status::invalid("one file at a time: '" + args[i] + "' is the second");
    }
  }
  if (o.input.empty()) return Status::invalid("give the draft; aurora drafts --help");
  if (o.output.empty()) return Status::invalid("say where to by -o; aurora drafts --help");
  return o;
}

// A draft in GGUF, whole and sound; for `target`, or where none is given for the one it names.
Result<RawDraft> read_sound(const std::string& path, const std::optional<HeadTarget>& target) {
  auto draft = read_raw_draft(path);
  if (!draft) return draft;
  DraftTarget own{
      draft->shape.hidden, draft->shape.target_vocab, std::numeric_limits<int>::max(), {}};
  const auto info = check_draft_file(path, target ? target->check : own);
  if (!info) return info.status();
  return draft;
}

void repack(RawDraft& draft, std::optional<ggml_type> type) {
  if (!type) return;
  const auto specs = draft_tensors(draft.shape, static_cast<int64_t>(draft.d2t.size()));
  for (const DraftTensor& spec : specs) {
    const auto found = draft.tensors.find(spec.name);
    if (!spec.matrix || found == draft.tensors.end()) continue;
    found->second = convert(found->second, spec.rows, spec.cols, fitting_type(*type, spec.cols));
  }
}

// Beside `path` first: what is there is whole, and passes the check that serving makes.
Status write_sound(const std::string& path, const RawDraft& draft, const GgufFile& tokenizer,
                   const DraftTarget& target, const std::string& source) {
  const std::string beside = path + ".tmp";
  Status status = write_raw_draft(beside, draft, tokenizer);
  if (status) {
    const auto info = check_draft_file(beside, target);
    if (!info) {
      const std::string& why = info.status().message();
      status = Status(info.status().code(),
                      why.starts_with(beside) ? source + why.substr(beside.size()) : why);
    }
  }
  if (status) status = rename_durably(beside, path);
  std::error_code ignored;
  if (!status) std::filesystem::remove(beside, ignored);
  return status;
}

Status export_draft(const Options& o) {
  auto draft = read_sound(o.input, std::nullopt);
  if (!draft) return draft.status();
  if (!o.to_gguf) return export_head(*draft, o.output, o.dialect);
  const std::string path = o.output + "/draft.gguf";
  std::error_code error;
  if (std::filesystem::exists(path, error))
    return Status::exists(path + " is there already; give a new folder by -o");
  std::filesystem::create_directories(o.output, error);
  if (error) return Status::io("cannot make the folder " + o.output + ": " + error.message());
  repack(*draft, o.type);
  const auto tokenizer = GgufFile::open(o.input);
  if (!tokenizer) return tokenizer.status();
  const DraftTarget own{
      draft->shape.hidden, draft->shape.target_vocab, std::numeric_limits<int>::max(), {}};
  return write_sound(path, *draft, **tokenizer, own, o.input);
}

bool is_gguf(const std::string& path) {
  std::error_code ignored;
  return !std::filesystem::is_directory(path, ignored) && !path.ends_with(".safetensors");
}

Status import_draft(Options o) {
  const bool gguf = is_gguf(o.input);
  if (!o.target.empty()) {
    const auto first = first_model_file(o.target);
    if (!first) return first.status();
    o.target = *first;
  }
  if (o.target.empty() && !gguf)
    return Status::invalid("safetensors hold no tokenizer: give the target by -m TARGET.gguf");
  const auto tokenizer = GgufFile::open(o.target.empty() ? o.input : o.target);
  if (!tokenizer) return tokenizer.status();
  std::optional<HeadTarget> target;
  if (!o.target.empty()) {
    auto read = head_target(**tokenizer);
    if (!read) return read.status();
    target = std::move(*read);
  }
  auto draft = gguf ? read_sound(o.input, target) : import_head(o.input, target->shape, o.type);
  if (!draft) return draft.status();
  if (gguf) repack(*draft, o.type);
  const DraftTarget own{
      draft->shape.hidden, draft->shape.target_vocab, std::numeric_limits<int>::max(), {}};
  return write_sound(o.output, *draft, **tokenizer, target ? target->check : own, o.input);
}

}  // namespace

int drafts_main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "list") return drafts_list_main({argv + 2, argv + argc});
  const auto options = parse({argv + 1, argv + argc});
  if (!options) {
    std::fprintf(stderr, "aurora drafts: %s\n", options.status().message().c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  // The sentence is ours: ggml's own complaints about a file would stand before it.
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const Status status = options->exports ? export_draft(*options) : import_draft(*options);
  if (status) return 0;
  std::fprintf(stderr, "aurora drafts: %s\n", status.message().c_str());
  return 1;
}

}  // namespace aurora
