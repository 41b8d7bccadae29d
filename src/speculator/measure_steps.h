// What a decode step of n rows costs on this machine, measured once at start.
#pragma once

#include <vector>

#include "llama.h"
#include "speculator/step_cost.h"

namespace aurora {

// Decodes 1, 2, 3, 4, 6, 8, 12 ... rows_max rows on sequence 0 of an idle context, in blocks of
// equal steps of which the fastest counts, and empties its memory again; never more rows than the
// context's batch takes. Takes about 50 single steps and bounds itself to some seconds on a slow
// machine. Empty where even one row did not fit. Must be called before the first request.
std::vector<StepPoint> measure_steps(llama_context* target, int32_t rows_max);

}  // namespace aurora
