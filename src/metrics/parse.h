// Reads the text exposition format: for `aurora replay`, and for the trainer's status file.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace aurora {

// Key: name with its labels, as written: `aurora:x_total{position="0"}`. Lines that are no sample
// are skipped, whatever the bytes; of a repeated key the last counts. A timestamp behind the value
// is ignored.
std::map<std::string, double> parse_metrics(std::string_view text);

}  // namespace aurora
