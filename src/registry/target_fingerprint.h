// Names a target model by its file: server, trainer and rollouts must agree on it, and traces and
// drafts carry it.
#pragma once

#include <string>

#include "base/status.h"

namespace aurora {

// First 16 hex digits of sha256 over the file's size, its first MiB (shape and vocabulary), and of
// every tensor 4 KiB from its beginning and 4 KiB from its middle: two models that share all else
// differ in their weights. Of a split model, the same over the names of its parts, whichever of
// them is given. Reads some MiB, so it costs milliseconds on any model.
Result<std::string> target_fingerprint(const std::string& path);

// As it was made until November 2026, from the file's two ends: to say whose state is not used.
Result<std::string> old_target_fingerprint(const std::string& path);

}  // namespace aurora
