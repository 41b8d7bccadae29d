// `aurora drafts`: the list of its commands.
#include "cli/commands.h"
#include "cli/dispatch.h"

namespace aurora {

int drafts_main(const Words& args) {
  static constexpr Command kCommands[] = {
      {"list", drafts_list_main, "the versions: what each promised, what serving found"},
      {"show", drafts_show_main, "one version, with its reasons"},
      {"pin", drafts_pin_main, "servers draft with this version alone"},
      {"unpin", drafts_unpin_main, "newer versions are tried again"},
      {"rollback", drafts_rollback_main, "puts the version in service away, pins the one before"},
      {"rm", drafts_rm_main, "removes the weights of a version that nobody uses"},
      {"export", drafts_export_main, "a draft as a head for SGLang, vLLM, speculators, or GGUF"},
      {"import", drafts_import_main, "such a head as a draft"},
  };
  return dispatch("aurora drafts", kCommands, args);
}

}  // namespace aurora
