// Flags of `aurora drafts`, and which folder and version are meant.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/flags.h"
#include "draft/head_files.h"

namespace aurora {

// list, show, pin, unpin, rollback, rm: a state folder, and for some a version in it.
struct DraftsOptions {
  std::string model, state;
  bool json = false, help = false;
  std::vector<std::string> words;
  int64_t version = 0;  // 0: none given
};

CommandLine drafts_list_command(DraftsOptions& options);
CommandLine drafts_show_command(DraftsOptions& options);
CommandLine drafts_pin_command(DraftsOptions& options);
CommandLine drafts_unpin_command(DraftsOptions& options);
CommandLine drafts_rollback_command(DraftsOptions& options);
CommandLine drafts_rm_command(DraftsOptions& options);

enum class VersionWord { kNone, kMay, kMust };
Result<DraftsOptions> parse_drafts_options(CommandLine (*command)(DraftsOptions&), VersionWord word,
                                           const std::vector<std::string>& args);
// The state folder: the one given, or the one that `aurora serve -m MODEL` uses.
Result<std::string> state_of(const std::string& model, const std::string& state);
// STATE/drafts. not_found: nothing has been published there.
Result<std::string> drafts_folder(const DraftsOptions& options);

struct HeadOptions {  // export, import
  bool exports = false, help = false, to_gguf = false;
  std::string input, output, target;
  ExportOptions dialect;
  std::optional<ggml_type> type;
  std::vector<std::string> words;
};

CommandLine drafts_export_command(HeadOptions& options);
CommandLine drafts_import_command(HeadOptions& options);
Result<HeadOptions> parse_head_options(CommandLine (*command)(HeadOptions&),
                                       const std::vector<std::string>& args);

}  // namespace aurora
