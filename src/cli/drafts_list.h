// `aurora drafts list`, its arguments behind "list"; the exit code.
#pragma once

#include <string>
#include <vector>

namespace aurora {

int drafts_list_main(const std::vector<std::string>& args);

}  // namespace aurora
