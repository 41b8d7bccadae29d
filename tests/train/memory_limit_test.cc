// A trainer that wants more memory than it may have: the step fails, the process lives.
#include "base/memory_limit.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "train/toy_training.h"

namespace aurora {
namespace {

// 0: as it should be. In a process of its own.
int learn_under_limit() {
  const ToyRows rows;
  LearnOptions options;
  auto learner = make_learner(toy_draft(toy_shape(), first_ids(kToyVocab), 1), rows, options);
  if (!learner) return 1;
  const TraceRecord small = toy_record({.id = 1}),
                    large = toy_record({.id = 2, .served_tokens = 9000});
  const TraceRecord* one = &small;
  if (!(*learner)->learn({&one, 1})) return 2;
  if (!limit_memory(200u << 20)) return 3;
  one = &large;  // more than a GiB for a tensor of scores
  const auto refused = (*learner)->learn({&one, 1});
  if (refused || refused.status().code() != StatusCode::kInternal) return 4;
  one = &small;
  return (*learner)->learn({&one, 1}) ? 0 : 5;
}

TEST(MemoryLimit, AStepThatWantsMoreFailsAndTheNextOneGoesOn) {
  const pid_t child = fork();
  if (child == 0) _exit(learn_under_limit());
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFEXITED(state)) << "signal " << WTERMSIG(state);
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

}  // namespace
}  // namespace aurora
