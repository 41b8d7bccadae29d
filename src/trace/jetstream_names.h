// The streams and subjects of traces (docs/trace-format.md).
#pragma once

#include <string>

namespace aurora {

inline std::string traces_stream(const std::string& prefix) { return prefix + "_traces"; }
inline std::string record_subject(const std::string& prefix) { return prefix + ".traces.record"; }
inline std::string piece_subject(const std::string& prefix) { return prefix + ".traces.piece"; }

}  // namespace aurora
