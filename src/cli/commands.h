// The subcommands of `aurora`: argv[0] is the subcommand's name. Each returns the process's exit
// code.
#pragma once

#include <string>
#include <vector>

namespace aurora {
int serve_main(int argc, char** argv);
int train_main(int argc, char** argv);
int status_main(int argc, char** argv);
int drafts_main(int argc, char** argv);
int bench_main(int argc, char** argv);
int bench_learn_main(const std::vector<std::string>& args);  // the words behind `bench learn`
}  // namespace aurora
