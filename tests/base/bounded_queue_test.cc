#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace aurora {
namespace {

using std::chrono::milliseconds;

TEST(BoundedQueue, KeepsOrderAndRefusesWhenFull) {
  BoundedQueue<std::unique_ptr<int>> queue(2);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(queue.try_push(std::move(third)));
  ASSERT_NE(third, nullptr) << "a refused value stays with the caller";
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(**queue.pop(milliseconds(0)), 1);
  EXPECT_TRUE(queue.try_push(std::move(third)));
  EXPECT_EQ(**queue.pop(milliseconds(0)), 2);
  EXPECT_EQ(**queue.pop(milliseconds(0)), 3);
  EXPECT_FALSE(queue.pop(milliseconds(1)).has_value());
}

TEST(BoundedQueue, CloseRefusesDrainsAndWakes) {
  BoundedQueue<int> queue(4);
  EXPECT_TRUE(queue.try_push(1));
  queue.close();
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.try_push(2));
  EXPECT_EQ(queue.pop(milliseconds(0)), 1);

  BoundedQueue<int> waited_on(1);
  std::thread waiter([&] { EXPECT_FALSE(waited_on.pop(milliseconds(60000)).has_value()); });
  waited_on.close();
  waiter.join();
}

TEST(BoundedQueue, ManyThreadsLoseAndInventNothing) {
  constexpr int kPushers = 3;
  constexpr int kEach = 2000;
  BoundedQueue<int> queue(16);
  std::vector<int> seen(kPushers * kEach, 0);
  std::thread popper([&] {
    while (auto value = queue.pop(milliseconds(60000))) ++seen[static_cast<size_t>(*value)];
  });
  std::vector<std::thread> pushers;
  for (int p = 0; p < kPushers; ++p) {
    pushers.emplace_back([&, p] {
      for (int i = 0; i < kEach; ++i) {
        while (!queue.try_push(p * kEach + i)) std::this_thread::yield();
      }
    });
  }
  for (std::thread& pusher : pushers) pusher.join();
  queue.close();
  popper.join();
  EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
}

}  // namespace
}  // namespace aurora
