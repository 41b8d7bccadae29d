#include "speculator/request_figures.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

TEST(RequestFigures, NothingDrafted) {
  RequestFigures figures;
  for (int i = 0; i < 3; ++i) figures.step();
  EXPECT_EQ(figures.text(3, {}),
            R"({"accept_length":1.000,"tokens":3,"steps":3,"drafts":0,"drafted":0,"accepted":0,)"
            R"("accepted_by_step":[3],"steps_accepted":[0,0,0],"draft_version":0,"arms":{}})");
}

TEST(RequestFigures, AcceptedTokensMoveTheirStep) {
  RequestFigures figures;
  figures.step();  // the prompt's
  for (const int accepted : {2, 0, 2, 16}) {
    figures.drafted(16, accepted == 0 ? 0 : 4);  // repeated text has no version
    figures.step();
    figures.accept(accepted);
  }
  DraftService::Figures arms{};
  arms[static_cast<size_t>(DraftArm::kChain)] = {48, 20};
  arms[static_cast<size_t>(DraftArm::kRequestText)] = {16, 0};
  EXPECT_EQ(
      figures.text(25, arms),
      R"({"accept_length":5.000,"tokens":25,"steps":5,"drafts":4,"drafted":64,"accepted":20,)"
      R"("accepted_by_step":[2,0,2,0,0,0,0,0,0,0,0,0,0,0,0,0,1],)"
      R"("steps_accepted":[0,2,0,2,16],"draft_version":4,)"
      R"("arms":{"request_text":{"drafted":16,"accepted":0},"chain":{"drafted":48,"accepted":20}}})");
}

TEST(RequestFigures, WithoutAStepThereIsNoMean) {
  EXPECT_NE(RequestFigures().text(0, {}).find(R"("accept_length":0.000,)"), std::string::npos);
}

}  // namespace
}  // namespace aurora
