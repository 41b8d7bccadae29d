// Which prompt is answered again, and the flags of `aurora rollouts`.
#include <gtest/gtest.h>

#include "cli/rollout_options.h"
#include "cli/rollout_queue.h"

namespace aurora {
namespace {

TraceRecord request(uint64_t id) {
  TraceRecord record;
  record.id = id;
  record.tenant = "one";
  record.domain = "sql";
  record.prompt_tokens = 2;
  record.tokens = {10, 11, 12, 13};
  return record;
}

std::vector<uint64_t> all_of(RolloutQueue& queue, int64_t now_ms = 0) {
  std::vector<uint64_t> ids;
  while (const auto next = queue.next(now_ms)) ids.push_back(next->of);
  return ids;
}

TEST(RolloutQueue, TheNewestFirstAndAllAsOften) {
  RolloutQueue queue(2, 10);
  for (const uint64_t id : {1, 2, 3}) queue.add(request(id), 0);
  EXPECT_EQ(all_of(queue), (std::vector<uint64_t>{3, 2, 1, 3, 2, 1}));
  queue.add(request(4), 0);
  EXPECT_EQ(all_of(queue), (std::vector<uint64_t>{4, 4}));
}

TEST(RolloutQueue, CarriesThePromptAloneAndItsLabels) {
  RolloutQueue queue(1, 10);
  queue.add(request(7), 5000);
  const auto prompt = queue.next(0);
  ASSERT_TRUE(prompt.has_value());
  EXPECT_EQ(prompt->tokens, (std::vector<int32_t>{10, 11}));
  EXPECT_EQ(prompt->tenant, "one");
  EXPECT_EQ(prompt->domain, "sql");
  EXPECT_EQ(prompt->expires_ms, 5000);
}

TEST(RolloutQueue, ForgetsOldAndExpiredPrompts) {
  RolloutQueue queue(1, 2);
  for (const uint64_t id : {1, 2}) queue.add(request(id), 0);
  queue.add(request(3), 1000);
  EXPECT_FALSE(queue.done(1000));
  EXPECT_EQ(all_of(queue, 1000), (std::vector<uint64_t>{2}));
  EXPECT_TRUE(queue.done(1000));
}

TEST(RolloutQueue, CountsWhatWasMadeElsewhereAndWhatDidNotBegin) {
  RolloutQueue queue(2, 10);
  queue.add(request(1), 0);
  queue.count(1, 1);
  queue.count(99, 1);  // of a request that is gone
  EXPECT_EQ(all_of(queue), (std::vector<uint64_t>{1}));
  queue.count(1, -1);
  EXPECT_EQ(all_of(queue), (std::vector<uint64_t>{1}));
}

TEST(RolloutOptions, BadFlagsGetASentence) {
  EXPECT_FALSE(parse_rollout_options({"--state", "s"}).is_ok());
  EXPECT_FALSE(parse_rollout_options({"-m", "m.gguf"}).is_ok());
  EXPECT_FALSE(parse_rollout_options({"-m", "m.gguf", "--state", "s", "--each", "0"}).is_ok());
  EXPECT_FALSE(parse_rollout_options({"-m", "m.gguf", "--state", "s", "--ech", "2"}).is_ok());
  EXPECT_FALSE(parse_rollout_options({"-m", "m.gguf", "--state"}).is_ok());
  const auto options = parse_rollout_options({"-m", "m.gguf", "--state", "s", "--each", "3"});
  ASSERT_TRUE(options.is_ok());
  EXPECT_EQ(options->each, 3);
  EXPECT_FALSE(options->once);
  const auto once = parse_rollout_options({"--once", "-m", "m.gguf", "--state", "s", "--once"});
  EXPECT_TRUE(once.is_ok() && once->once);
}

TEST(RolloutOptions, FindsTheServerByItsOwnArguments) {
  EXPECT_EQ(*server_url({}), "http://127.0.0.1:8080");
  EXPECT_EQ(*server_url({"--host", "0.0.0.0", "--port", "9000"}), "http://127.0.0.1:9000");
  EXPECT_EQ(*server_url({"--host", "::1"}), "http://[::1]:8080");
  EXPECT_FALSE(server_url({"--host", "/run/a.sock"}).is_ok());
  EXPECT_FALSE(server_url({"--ssl-key-file", "k"}).is_ok());
  EXPECT_FALSE(server_url({"--api-key-file", "k"}).is_ok());
}

}  // namespace
}  // namespace aurora
