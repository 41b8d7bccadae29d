// `aurora drafts export` and `import`: heads of other programs become drafts of ours, and ours
// theirs.
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/drafts_options.h"
#include "draft/draft_tensors.h"
#include "draft/head_files.h"
#include "draft/model_files.h"

namespace aurora {
namespace {

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

Status export_draft(HeadOptions o) {
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

Status import_draft(HeadOptions o) {
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

int run(CommandLine (*command)(HeadOptions&), Status (*work)(HeadOptions), const Words& args) {
  const auto options = parse_head_options(command, args);
  if (!options) return refuse("aurora drafts", options.status());
  if (options->help) return print_help(command);
  // The sentence is ours: ggml's own complaints about a file would stand before it.
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const Status status = work(*options);
  if (status) return 0;
  refuse("aurora drafts", status);
  return 1;
}

}  // namespace

int drafts_export_main(const Words& args) { return run(drafts_export_command, export_draft, args); }
int drafts_import_main(const Words& args) { return run(drafts_import_command, import_draft, args); }

}  // namespace aurora
