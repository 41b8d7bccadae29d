// `aurora serve --deterministic on`: greedy text is the same to the last byte whatever is drafted,
// batched, cached or how many threads run, or the server does not start. The kernels have one order
// of sums for every batch; this checks that nothing else would run in their place.
#pragma once

#include <string>

#include "cli/serve_options.h"

namespace aurora {

// invalid: one sentence that says which flag, weight or property of the target is not covered.
Status check_deterministic_flags(const ServeOptions& options);
Status check_deterministic_target(const std::string& path, const std::string& architecture);

// After kernels::install().
Status check_deterministic_cpu();

}  // namespace aurora
