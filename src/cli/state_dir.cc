#include "cli/state_dir.h"

#include <cstdlib>

#include "base/files.h"
#include "base/log.h"

namespace aurora {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// What lies there is loaded, and holds what users wrote.
Status make_own_dir(const std::string& path) {
  Status made = make_dirs(path);
  return made ? check_own_dir(path) : made;
}

}  // namespace

std::string default_state(const std::string& target) {
  // systemd names several directories with a colon between them.
  const std::string unit = variable("STATE_DIRECTORY");
  if (!unit.empty()) return unit.substr(0, unit.find(':')) + "/" + target;
  if (const std::string base = variable("XDG_STATE_HOME"); !base.empty())
    return base + "/aurora/" + target;
  if (const std::string home = variable("HOME"); !home.empty())
    return home + "/.local/state/aurora/" + target;
  return "";
}

Status make_state(ServeOptions& options) {
  Status status = options.state.empty()
                      ? Status::invalid(
                            "there is nowhere to keep traces and drafts: HOME is not set; give "
                            "--state DIR, or --capture off --train off to serve without them")
                      : make_own_dir(options.state);
  const bool needed = options.capture || options.trains() || !options.buffer.empty();
  if (status || needed) return status;
  LOG_WARN("serve", "no draft will be found: %s", status.message().c_str());
  options.state.clear();
  return Status::ok();
}

}  // namespace aurora
