// Threads of LibTorch's operations and of the matrix products below them. Cheap where nothing
// changes; call between two steps.
#pragma once

namespace aurora {

void set_torch_threads(int threads);

// The same, and they exist: under a memory limit a later one might find no room for its stack,
// which ends the process without a word of ours.
void start_torch_threads(int threads);

}  // namespace aurora
