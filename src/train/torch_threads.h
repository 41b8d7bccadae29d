// Threads of LibTorch's operations and of the matrix products below them. Cheap where nothing
// changes; call between two steps.
#pragma once

namespace aurora {

void set_torch_threads(int threads);

}  // namespace aurora
