// The picture of a replay: accept length and tokens/s against served tokens, every swap marked.
#pragma once

#include <string>

#include "replay/report.h"

namespace aurora {

// A self-contained picture, readable on light and dark pages. No samples: a picture that says so.
std::string report_svg(const Report& report);

// A self-contained page: figures, the same picture, a table. No script, nothing fetched.
std::string report_html(const Report& report);

}  // namespace aurora
