#include "train/torch_threads.h"

#include <ATen/Parallel.h>

// OpenBLAS has its own thread pool, which LibTorch's setting does not reach. Weak: another BLAS may
// be linked.
extern "C" __attribute__((weak)) void openblas_set_num_threads(int);

namespace aurora {

void set_torch_threads(int threads) {
  static int last = 0;  // one thread trains
  if (threads == last) return;
  last = threads;
  at::set_num_threads(threads);
  if (openblas_set_num_threads) openblas_set_num_threads(threads);
}

void start_torch_threads(int threads) {
  set_torch_threads(threads);
  at::parallel_for(0, threads, 1, [](int64_t, int64_t) {});
}

}  // namespace aurora
