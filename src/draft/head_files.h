// EAGLE-3 heads as other programs keep them: a folder of model.safetensors and config.json. To and
// from a RawDraft; the rows of q and k change their order on the way (docs/draft-files.md).
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "draft/dialect.h"
#include "draft/draft_check.h"
#include "draft/raw_draft.h"
#include "draft/safetensors.h"

namespace aurora {

struct ExportOptions {
  Dialect dialect = Dialect::kSpecForge;
  std::optional<SafeType>
      type;              // of the matrices: F32, F16, BF16; none: as they are, F32 if packed
  std::string verifier;  // the target's name at Hugging Face, for speculators
};
// Makes DIR and writes both files into it, or leaves neither. exists: one of them is there already.
Status export_head(const RawDraft& draft, const std::string& dir, const ExportOptions& options);

// What a head and a draft for this target must fit.
struct HeadTarget {
  DraftShape shape;   // hidden, target_vocab, target_layers and context alone
  DraftTarget check;  // for check_draft_file
};
Result<HeadTarget> head_target(const GgufFile& target);

// `path`: the folder, or its .safetensors file. type: of the matrices; none: as they are, and as
// they were before an export of ours. Each refusal is one sentence that begins with the file.
Result<RawDraft> import_head(const std::string& path, const DraftShape& target,
                             std::optional<ggml_type> type);

}  // namespace aurora
