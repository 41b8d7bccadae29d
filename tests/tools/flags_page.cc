// aurora-flags-page: prints docs/flags.md.
// aurora-flags-page NAME...: what aurora serve does with each flag or variable, a line each.
#include <cstdio>
#include <string>

#include "cli/server_flags.h"

namespace {

const char* use_of(const std::string& name) {
  const aurora::ServerFlags* entry =
      name.starts_with('-') ? aurora::find_server_flag(name) : aurora::find_server_variable(name);
  if (entry == nullptr) return "unknown";
  switch (entry->use) {
    case aurora::FlagUse::kWorks: return "works";
    case aurora::FlagUse::kRefused: return "refused";
    case aurora::FlagUse::kIdle: return "idle";
    case aurora::FlagUse::kPrints: return "prints";
  }
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) std::fputs(aurora::server_flags_page().c_str(), stdout);
  for (int i = 1; i < argc; ++i) std::printf("%s %s\n", argv[i], use_of(argv[i]));
  return 0;
}
