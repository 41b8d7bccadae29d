// `aurora replay`: sends a traffic file to a running server and reports how the draft did.
#pragma once

namespace aurora {

// argv[0] is the subcommand's name. Exit code: 0 all requests answered, 1 some failed or the run
// could not start, 2 wrong arguments. Blocks until the traffic is through or SIGINT came.
int replay_main(int argc, char** argv);

}  // namespace aurora
