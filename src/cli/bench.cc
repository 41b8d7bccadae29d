// `aurora bench`: the list of its commands; they are in src/lab.
#include "lab/bench.h"

#include "cli/commands.h"
#include "cli/dispatch.h"

namespace aurora {

int bench_main(const Words& args) {
  static constexpr Command kBenches[] = {
      {"verify", bench_verify_main, "what a step of n tokens costs, on our kernels and stock's"},
      {"learn", bench_learn_main, "training recipes compared on a recorded stream"},
      {"flywheel", bench_flywheel_main, "does what is learnt reach the clock: all ways to serve"},
  };
  return dispatch("aurora bench", kBenches, args);
}

}  // namespace aurora
