// The draft service by hand: what a request's text may be used for, what an error costs, which
// versions are wanted. How well it chooses: tests/sim.
#include "speculator/draft_service.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

// Drafts 100, 101, ... with this probability, or fails.
class Counting : public ChainDrafter {
 public:
  explicit Counting(int64_t version, float prob = 0.9f) : version_(version), prob_(prob) {}
  int64_t version() const override { return version_; }
  int32_t rows_missing(int32_t, const KeptRows&) const override { return 0; }
  Status begin(std::span<ChainWish* const> wishes) override {
    for (ChainWish* wish : wishes) wish->tokens.clear(), wish->probs.clear();
    return fails ? fail(wishes) : next(wishes);
  }
  Status next(std::span<ChainWish* const> wishes) override {
    ++calls;
    if (fails_behind > 0 && calls > fails_behind) return fail(wishes);
    for (ChainWish* wish : wishes) {
      wish->tokens.push_back(100 + static_cast<int32_t>(wish->tokens.size()));
      wish->probs.push_back(prob_);
    }
    return Status::ok();
  }
  void set_threads(int32_t) override {}

  bool fails = false;
  int fails_behind = 0;
  int calls = 0;

 private:
  static Status fail(std::span<ChainWish* const> wishes) {
    for (ChainWish* wish : wishes) wish->tokens.clear(), wish->probs.clear();
    return Status::internal("as told");
  }
  int64_t version_;
  float prob_;
};

class DraftServiceTest : public testing::Test {
 protected:
  DraftService& make(DraftServiceOptions options = {}) {
    DraftService::Events events;
    events.verdict = [this](const VersionVerdict& verdict) { verdicts_.push_back(verdict); };
    events.retire = [this](std::unique_ptr<ChainDrafter> one) {
      retired_.push_back(one->version());
    };
    events.failed = [this](const Status&) { ++failed_; };
    events.now_us = [this] { return now_us_ += 1000; };
    service_ = std::make_unique<DraftService>(options, std::move(events), 2);
    service_->step_cost().measured(std::vector<StepPoint>{{1, 10}, {16, 12}});
    return *service_;
  }
  void start(int32_t slot, std::vector<int32_t> prompt, const std::string& tenant = "",
             bool remember = true, int32_t depth_max = 16) {
    ServiceRequest request;
    request.prompt = prompt;
    request.tenant = tenant;
    request.remember = remember;
    request.depth_max = depth_max;
    service_->request_start(slot, request);
  }
  std::vector<int32_t> draft(int32_t slot, int32_t next, bool rows = true, int32_t drafts_max = 64,
                             std::function<bool(int32_t)> allows = {}) {
    std::vector<DraftService::Wish> wishes(1);
    wishes[0].allows = std::move(allows);
    wishes[0].slot = slot;
    wishes[0].rows = rows ? &rows_ : nullptr;
    wishes[0].next = next;
    wishes[0].depth_max = 16;
    service_->draft(wishes, drafts_max);
    return wishes[0].tokens;
  }

  const KeptRows rows_;
  int64_t now_us_ = 0;
  int failed_ = 0;
  std::vector<VersionVerdict> verdicts_;
  std::vector<int64_t> retired_;
  std::unique_ptr<DraftService> service_;
};

TEST_F(DraftServiceTest, DraftsFromTheRequestsOwnText) {
  make();
  start(0, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21, 2, 3, 4, 5, 6, 7, 8});
  service_->token_served(0, 9);
  const std::vector<int32_t> tokens = draft(0, 9);
  ASSERT_FALSE(tokens.empty());
  EXPECT_EQ(tokens.front(), 10);
  service_->stepped(0, static_cast<int32_t>(tokens.size()));
  EXPECT_EQ(service_->figures(DraftArm::kRequestText).accepted, tokens.size());
}

TEST_F(DraftServiceTest, PastTrafficIsForItsTenantAndNeverOfOptedOut) {
  make();
  const auto serve = [&](const std::string& tenant, bool remember, int32_t base) {
    start(0, {base, base + 1, base + 2}, tenant, remember);
    for (int32_t t = base + 3; t < base + 30; ++t) service_->token_served(0, t);
    service_->request_end(0);
  };
  serve("a", true, 1000);
  serve("a", false, 2000);
  const auto ask = [&](const std::string& tenant, int32_t base) {
    start(1, {7, base, base + 1, base + 2, base + 3, base + 4}, tenant);
    service_->token_served(1, base + 5);
    const std::vector<int32_t> tokens = draft(1, base + 5, false);
    service_->stepped(1, 0);
    service_->request_end(1);
    return !tokens.empty() && tokens.front() == base + 6;
  };
  EXPECT_TRUE(ask("a", 1000));
  EXPECT_FALSE(ask("b", 1000)) << "another tenant's text";
  EXPECT_FALSE(ask("a", 2000)) << "opted out";
}

TEST_F(DraftServiceTest, BoundsHold) {
  make();
  service_->adopt(std::make_unique<Counting>(1), 3.5, 3);
  start(0, {}, "", true, 3);
  EXPECT_LE(draft(0, 5).size(), 3u) << "the request's own";
  EXPECT_LE(draft(0, 5, true, 2).size(), 2u) << "cells and batch";
  EXPECT_TRUE(draft(0, 5, true, 0).empty());
  EXPECT_TRUE(draft(0, 5, false).empty()) << "no rows, no text";
}

// A grammar forbids what the draft says: that is no news of the requests without one.
TEST_F(DraftServiceTest, WhatAGrammarRefusesSaysNothingOfTheOthers) {
  make();
  service_->step_cost().measured(std::vector<StepPoint>{{1, 10}, {16, 100}});
  service_->adopt(std::make_unique<Counting>(1), 3.5, 3);
  const auto serve = [&](bool grammar, int steps) {
    ServiceRequest request;
    request.grammar = grammar;
    service_->request_start(0, request);
    size_t drafted = 0;
    for (int i = 0; i < steps; ++i) {
      const size_t count = draft(0, 5).size();
      drafted += count;
      service_->stepped(0, grammar ? 0 : static_cast<int32_t>(count));
    }
    service_->request_end(0);
    return static_cast<double>(drafted) / steps;
  };
  serve(false, 200);
  const double before = serve(false, 50);
  EXPECT_LT(serve(true, 200), 0.5) << "what is never taken is not drafted";
  EXPECT_GE(serve(false, 10), 0.8 * before);
}

// The grammar is asked along the draft, and not again behind a no.
TEST_F(DraftServiceTest, ATokenThatTheGrammarForbidsEndsTheDraft) {
  std::vector<int32_t> asked;
  const auto without = [&](int32_t forbidden) {
    return [&asked, forbidden](int32_t token) {
      asked.push_back(token);
      return token != forbidden;
    };
  };
  make();
  start(0, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21, 2, 3, 4, 5, 6, 7, 8});
  service_->token_served(0, 9);
  ASSERT_GT(draft(0, 9).size(), 2u);
  EXPECT_EQ(draft(0, 9, true, 64, without(12)), (std::vector<int32_t>{10, 11}));
  EXPECT_EQ(asked, (std::vector<int32_t>{10, 11, 12}));
  service_->stepped(0, 2);
  EXPECT_EQ(service_->figures(DraftArm::kRequestText).drafted, 2u);

  DraftServiceOptions options;
  options.adaptive = false;
  make(options);
  auto drafter = std::make_unique<Counting>(1);
  const int* calls = &drafter->calls;
  service_->adopt(std::move(drafter), 3.5, 3);
  start(0, {});
  asked.clear();
  EXPECT_EQ(draft(0, 5, true, 64, without(102)), (std::vector<int32_t>{100, 101}));
  EXPECT_EQ(asked, (std::vector<int32_t>{100, 101, 102}));
  EXPECT_EQ(*calls, 3) << "nothing is drafted behind it";
}

// Chain, then text that goes on behind it.
TEST_F(DraftServiceTest, TextBehindAChainIsHeldAgainstTheGrammarToo) {
  make();
  service_->adopt(std::make_unique<Counting>(1, 0.99f), 3.5, 3);
  start(0, {100, 101, 102, 103, 104, 105, 106, 50, 51, 52, 53, 5});
  const auto ends_before = [this](int32_t forbidden) {
    for (int i = 0; i < 50; ++i) {
      const auto count = static_cast<int32_t>(
          draft(0, 5, true, 64, [=](int32_t token) { return token != forbidden; }).size());
      service_->stepped(0, count);
    }
    return draft(0, 5, true, 64, [=](int32_t token) { return token != forbidden; });
  };
  ASSERT_GT(ends_before(0).size(), 4u);
  EXPECT_EQ(ends_before(104), (std::vector<int32_t>{100, 101, 102, 103}));
}

// It was drafted for nothing: a chain whose tokens are always forbidden is soon left alone.
TEST_F(DraftServiceTest, ForbiddenTokensCountAgainstDraftingThem) {
  make();
  auto drafter = std::make_unique<Counting>(1);
  const int* calls = &drafter->calls;
  service_->adopt(std::move(drafter), 3.5, 3);
  ServiceRequest request;
  request.grammar = true;
  service_->request_start(0, request);
  const auto calls_of = [&](int steps) {
    const int before = *calls;
    for (int i = 0; i < steps; ++i) {
      EXPECT_TRUE(draft(0, 5, true, 64, [](int32_t) { return false; }).empty());
      service_->stepped(0, 0);
    }
    return *calls - before;
  };
  EXPECT_GT(calls_of(100), 0);
  EXPECT_LT(calls_of(100), 10);
}

TEST_F(DraftServiceTest, AnErrorCostsTheDraftAndNothingElse) {
  make();
  auto broken = std::make_unique<Counting>(1);
  Counting* drafter = broken.get();
  service_->adopt(std::move(broken), 3.5, 3);
  start(0, {});
  drafter->fails = true;
  EXPECT_TRUE(draft(0, 5).empty());
  service_->stepped(0, 0);
  drafter->fails = false;
  drafter->fails_behind = drafter->calls + 1;
  EXPECT_TRUE(draft(0, 5).empty()) << "nothing is left of a draft that broke off";
  service_->stepped(0, 0);
  EXPECT_EQ(failed_, 2);
  drafter->fails_behind = 0;
  EXPECT_FALSE(draft(0, 5).empty());
}

TEST_F(DraftServiceTest, WithoutTheGateEveryVersionServesAtFullDepth) {
  DraftServiceOptions options;
  options.adaptive = false;
  options.depth_max = 5;
  make(options);
  service_->adopt(std::make_unique<Counting>(1, 0.01f), 0, 3);
  start(0, {});
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(draft(0, 5).size(), 5u);
    service_->stepped(0, 0);
  }
  service_->adopt(std::make_unique<Counting>(2), 0, 3);
  EXPECT_EQ(service_->serving(), 2);
  EXPECT_EQ(retired_, std::vector<int64_t>{1});
}

TEST_F(DraftServiceTest, AVersionOnTrialKeepsTheNextOneWaiting) {
  make();
  EXPECT_TRUE(service_->wanted()(1, false));
  service_->adopt(std::make_unique<Counting>(3), 2, 3);
  EXPECT_FALSE(service_->wanted()(2, false)) << "older";
  EXPECT_TRUE(service_->wanted()(4, false));
  service_->adopt(std::make_unique<Counting>(4), 2, 3);
  EXPECT_TRUE(service_->trying());
  EXPECT_EQ(service_->serving(), 3);
  EXPECT_FALSE(service_->wanted()(5, false));
  service_->drop_versions();
  EXPECT_EQ(service_->serving(), 0);
  EXPECT_EQ(retired_.size(), 2u);
  EXPECT_TRUE(service_->wanted()(1, false));
}

TEST_F(DraftServiceTest, APinnedVersionServesWithoutATrialAndAlone) {
  make();
  service_->adopt(std::make_unique<Counting>(3), 2, 3);
  service_->adopt(std::make_unique<Counting>(4), 2, 3);
  EXPECT_TRUE(service_->trying());
  EXPECT_TRUE(service_->wanted()(2, true)) << "older, and while another one is on trial";
  EXPECT_TRUE(service_->wanted()(3, true)) << "a trial beside it";
  service_->adopt(std::make_unique<Counting>(2), 2, 3, true);
  EXPECT_FALSE(service_->trying());
  EXPECT_EQ(service_->serving(), 2);
  EXPECT_EQ(retired_.size(), 2u);
  EXPECT_FALSE(service_->wanted()(2, true));
  EXPECT_TRUE(service_->wanted()(4, false)) << "unpinned: newer ones again";
}

TEST_F(DraftServiceTest, ChildrenOfARequestDraftFromItsPrompt) {
  make();
  start(0, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 2, 3, 4, 5, 6, 7, 8, 9});
  service_->request_copied(0, 1);
  service_->token_served(1, 10);
  const std::vector<int32_t> tokens = draft(1, 10, false);
  ASSERT_FALSE(tokens.empty());
  EXPECT_EQ(tokens.front(), 11);
}

}  // namespace
}  // namespace aurora
