// A trainer that wants more memory than it may have: the step fails, the process lives.
#include "base/memory_limit.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/log.h"
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

// Its stderr is the pipe's end. The first line of the log wants a thread and a ring of lines.
int speak_without_memory(int stderr_fd) {
  dup2(stderr_fd, STDERR_FILENO);
  if (!limit_memory(0)) return 1;
  LOG_ERROR("train", "last words");
  flush_log();
  return dropped_log_lines() == 0 ? 0 : 2;
}

// First: once a line is logged the thread is there, and a child of fork() writes without it.
TEST(MemoryLimit, AProcessWithoutRoomForAThreadStillSaysWhy) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) _exit(speak_without_memory(ends[1]));
  close(ends[1]);
  std::string said(4096, '\0');
  const ssize_t bytes = read(ends[0], said.data(), said.size());
  close(ends[0]);
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFEXITED(state)) << "signal " << WTERMSIG(state);
  EXPECT_EQ(WEXITSTATUS(state), 0);
  said.resize(static_cast<size_t>(std::max<ssize_t>(bytes, 0)));
  EXPECT_NE(said.find("last words"), std::string::npos) << said;
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
