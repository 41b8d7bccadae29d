// The variants file of `aurora bench learn`: one recipe a line.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct LearnVariant {
  std::string name;                // letters, digits, . _ -: it names a file
  std::vector<std::string> flags;  // of aurora train, and --passes N, the bench's own
};

// "NAME: FLAGS", flags split at blanks; empty lines and lines that begin with # are left out.
// invalid: one sentence that names the line.
Result<std::vector<LearnVariant>> parse_learn_variants(const std::string& text);

}  // namespace aurora
