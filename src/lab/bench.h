// The benches behind `aurora bench`: each takes the words behind its name and returns the exit
// code.
#pragma once

#include <string>
#include <vector>

namespace aurora {

int bench_verify_main(const std::vector<std::string>& args);
int bench_learn_main(const std::vector<std::string>& args);
int bench_flywheel_main(const std::vector<std::string>& args);

}  // namespace aurora
