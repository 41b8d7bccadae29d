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

// Words among the samples, which the format skips: "# aurora:trainer_last_exit exit code 1: no room
// on the disk". Empty words make no line; a line's end in them becomes a blank.
inline constexpr const char* kTrainerLastExit = "aurora:trainer_last_exit";
std::string comment_line(std::string_view name, std::string_view words);
// "" where there is none.
std::string comment_of(std::string_view text, std::string_view name);

}  // namespace aurora
