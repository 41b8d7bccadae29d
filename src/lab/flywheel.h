// `aurora bench flywheel`: does what is learnt reach the clock?
#pragma once

#include <string>
#include <vector>

namespace aurora {

// `args`: the words behind `bench flywheel`. Exit code: 0 all requests answered, 1 some failed or
// the run could not go on, 2 wrong arguments, 130 ended by SIGINT or SIGTERM. Starts servers and
// ends them; minutes to hours.
int bench_flywheel_main(const std::vector<std::string>& args);

}  // namespace aurora
