// The commands of `aurora`: each takes the words behind its name and returns the exit code.
#pragma once

#include <string>
#include <vector>

namespace aurora {
using Words = std::vector<std::string>;
int serve_main(const Words& args);
int train_main(const Words& args);
int rollouts_main(const Words& args);
int status_main(const Words& args);
int drafts_main(const Words& args);
int drafts_list_main(const Words& args);
int drafts_show_main(const Words& args);
int drafts_pin_main(const Words& args);
int drafts_unpin_main(const Words& args);
int drafts_rollback_main(const Words& args);
int drafts_rm_main(const Words& args);
int drafts_export_main(const Words& args);
int drafts_import_main(const Words& args);
int traces_main(const Words& args);
int bench_main(const Words& args);
}  // namespace aurora
