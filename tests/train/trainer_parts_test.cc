#include "train/trainer_parts.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "draft/draft_file.h"
#include "train/temp_file.h"
#include "train/tiny_target.h"

namespace aurora {
namespace {

class StartDraft : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_target(file_.path(), tiny_);
    target_ = std::move(*TargetWeights::open(file_.path()));
    options_.vocab = 100;
  }

  std::string refusal() const {
    const auto draft = start_draft(options_, *target_);
    return draft.is_ok() ? "" : draft.status().message();
  }

  TinyTarget tiny_;
  TempFile file_{"start.gguf"};
  std::unique_ptr<TargetWeights> target_;
  TrainOptions options_;
};

TEST_F(StartDraft, AnMlpAsWideAsAsked) {
  EXPECT_EQ(start_draft(options_, *target_)->shape.ff, tiny_.ff);
  options_.mlp = tiny_.ff;
  EXPECT_EQ(start_draft(options_, *target_)->shape.ff, tiny_.ff);
  options_.mlp = tiny_.ff - 32;
  EXPECT_EQ(start_draft(options_, *target_)->shape.ff, tiny_.ff - 32);
  options_.mlp = 2 * tiny_.ff;
  for (const char* init : {"target", "random"}) {
    options_.init = init;
    const auto draft = start_draft(options_, *target_);
    ASSERT_TRUE(draft.is_ok());
    const TempFile written("wide.gguf");
    ASSERT_TRUE(write_draft_file(written.path(), *draft, file_.path(), DraftDtype::kQ8_0).is_ok());
    EXPECT_EQ(read_draft_file(written.path())->shape.ff, 2 * tiny_.ff);
  }
}

TEST_F(StartDraft, ByItselfTheMlpIsFourThirdsOfTheWidthOrTheTargets) {
  for (const int ff : {32, 512}) {
    tiny_.ff = ff;
    write_tiny_target(file_.path(), tiny_);
    const auto target = TargetWeights::open(file_.path());
    ASSERT_TRUE(target.is_ok());
    const int width = (tiny_.hidden * 4 / 3 + 31) / 32 * 32;
    EXPECT_EQ(start_draft(options_, **target)->shape.ff, std::min(ff, width));
  }
}

TEST_F(StartDraft, AnImpossibleMlpIsRefused) {
  options_.mlp = tiny_.ff + 1;
  EXPECT_NE(refusal().find("multiple of 32"), std::string::npos);
  options_.mlp = 2 * tiny_.ff;
  options_.init = "draft.gguf";
  EXPECT_NE(refusal().find("--init"), std::string::npos);
}

}  // namespace
}  // namespace aurora
