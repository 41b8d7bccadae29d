// `aurora rollouts`: more text to learn from, at no user's cost. While the server is idle, recorded
// prompts are answered again by sampling from the target's law; the server captures those answers
// as traces of their own (TraceRecord::rollout_of), which the trainer learns from and the gate
// never judges by, and ends them when a request comes (edits/45-rollouts.edit). In the words of
// reinforcement learning: more rollouts of the same prompts.
#pragma once

namespace aurora {

// argv[0] is the subcommand's name. Exit code: 0 after SIGTERM, SIGINT or where --once is done, 1
// it cannot go on, 2 wrong arguments.
int rollouts_main(int argc, char** argv);

}  // namespace aurora
