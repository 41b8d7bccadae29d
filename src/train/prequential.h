// A training recipe on a recorded stream, prequentially: each group of requests is scored by the
// draft that would have served it, trained on all requests before, and is trained on afterwards by
// the loop that trains beside a server. Rollouts are trained on with the request they belong to,
// and neither scored nor counted. `aurora bench learn` runs it for many recipes.
#pragma once

#include "train/prequential_options.h"

namespace aurora {

// Progress on stderr, figures in options.json:
// {"done": true, "depths": [4],
//  "windows": [{"requests": 50, "served_tokens": 4000, "domain": "sql", "accept_len": [1.2],
//               "frozen_accept_len": [1.1], "seen_accept_len": [1.4]}, ...],
//  "accept_len": [1.3], "trained_columns": n, "rows_per_s": x, "seconds": s}
// served_tokens counts from the beginning of the stream.
Status run_prequential(const PrequentialOptions& options);

}  // namespace aurora
