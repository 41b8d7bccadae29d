// What our pages have in common: one file, no script, nothing fetched, light and dark.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace aurora {

// Up to the heading; page_end() closes it.
std::string page_begin(const std::string& title);
std::string page_end();

std::string page_tile(const std::string& value, const std::string& name);
// "Settings": names and values as they are.
std::string settings_list(const std::vector<std::pair<std::string, std::string>>& settings);

}  // namespace aurora
