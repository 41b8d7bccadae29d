#include "kernels/expert_routes.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace aurora::kernels {
namespace {

std::vector<int32_t> rows_of(const ExpertRoutes& routes, int64_t expert) {
  const auto rows = routes.rows().subspan(static_cast<size_t>(routes.begin(expert)),
                                          static_cast<size_t>(routes.count(expert)));
  return {rows.begin(), rows.end()};
}

TEST(ExpertRoutes, RowsOfAnExpertLieTogetherInTheirOrder) {
  const std::vector<int> expert_of = {2, 0, 2, 3, 0, 2};
  std::vector<int64_t> memory(ExpertRoutes::bytes(5, 6) / sizeof(int64_t));
  const ExpertRoutes routes(memory.data(), 5, 6,
                            [&](int64_t row) { return expert_of[static_cast<size_t>(row)]; });
  EXPECT_EQ(rows_of(routes, 0), (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(rows_of(routes, 1), std::vector<int32_t>{});
  EXPECT_EQ(rows_of(routes, 2), (std::vector<int32_t>{0, 2, 5}));
  EXPECT_EQ(rows_of(routes, 3), std::vector<int32_t>{3});
  EXPECT_EQ(std::vector<int32_t>(routes.busy().begin(), routes.busy().end()),
            (std::vector<int32_t>{0, 2, 3}));
  EXPECT_EQ(routes.begin(5), 6);
}

TEST(ExpertRoutes, EveryRowOnceWhateverTheNumbers) {
  std::mt19937 random(5);
  for (int experts : {1, 2, 60, 256}) {
    for (int rows : {0, 1, 7, 512}) {
      std::vector<int> expert_of(static_cast<size_t>(rows));
      for (int& expert : expert_of)
        expert = static_cast<int>(random() % static_cast<unsigned>(experts));
      std::vector<int64_t> memory(ExpertRoutes::bytes(experts, rows) / sizeof(int64_t));
      const ExpertRoutes routes(memory.data(), experts, rows,
                                [&](int64_t row) { return expert_of[static_cast<size_t>(row)]; });
      std::vector<int> seen(static_cast<size_t>(rows));
      for (const int32_t expert : routes.busy()) {
        for (const int32_t row : rows_of(routes, expert)) {
          EXPECT_EQ(expert_of[static_cast<size_t>(row)], expert);
          ++seen[static_cast<size_t>(row)];
        }
      }
      EXPECT_EQ(seen, std::vector<int>(static_cast<size_t>(rows), 1));
    }
  }
}

}  // namespace
}  // namespace aurora::kernels
