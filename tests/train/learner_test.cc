#include <gtest/gtest.h>

#include "train/optimizer.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

struct Fixture {
  ToyRows rows;
  std::vector<TraceRecord> records;
  std::vector<const TraceRecord*> refs;
  std::unique_ptr<Learner> learner;

  // All rows of all steps, and the last weights: what a recipe leaves out is tested by itself.
  static LearnOptions plain() {
    LearnOptions options;
    options.unreached_share = 1;
    options.average_updates = 0;
    return options;
  }

  explicit Fixture(std::vector<int64_t> vocab = first_ids(kToyVocab),
                   LearnOptions options = plain()) {
    for (uint64_t i = 0; i < 6; ++i)
      records.push_back(toy_record({.id = i + 1, .served_tokens = 12}));
    for (const TraceRecord& r : records) refs.push_back(&r);
    options.steps = 3;
    options.lr_fc = options.lr_head = options.lr_layer = 0.01f;
    learner = std::move(*make_learner(toy_draft(toy_shape(), std::move(vocab), 1), rows, options));
  }
  double accept_len(Scorer& scorer) {
    auto leads = scorer.leads(refs, 3);
    EXPECT_TRUE(leads.is_ok());
    double tokens = 0, steps = 0;
    for (const Leads& of_record : *leads) {
      tokens += static_cast<double>(of_record.size());
      for (size_t i = 0; i < of_record.size(); i += 1u + of_record[i]) ++steps;
    }
    return tokens / steps;
  }
};

TEST(Learner, LearnsALanguageThatCanBeLearnt) {
  Fixture f;
  EXPECT_LT(f.accept_len(*f.learner), 1.5);
  double first = 0, last = 0;
  for (int step = 0; step < 150; ++step) {
    auto result = f.learner->learn(f.refs);
    ASSERT_TRUE(result.is_ok()) << result.status().to_string();
    EXPECT_EQ(result->columns, 6 * 11);
    EXPECT_EQ(result->rows, 6 * (11 + 10 + 9));
    (step == 0 ? first : last) = result->loss;
  }
  EXPECT_LT(last, 0.5 * first);
  EXPECT_GT(f.accept_len(*f.learner),
            3.0);  // of 4 at most; the last tokens of a request cannot fill a draft
}

TEST(Learner, AWiderDraftLearnsAtALowerRate) {
  EXPECT_FLOAT_EQ(default_rate(64), 1e-3f);
  EXPECT_FLOAT_EQ(default_rate(576), 1e-3f);
  EXPECT_LT(default_rate(1536), default_rate(576));
  EXPECT_LT(default_rate(4096), default_rate(1536));
  EXPECT_GT(default_rate(1 << 20), 0);
  const Fixture f;
  const auto learnt = [&f](float rate) {
    LearnOptions options = Fixture::plain();
    options.lr_fc = options.lr_head = options.lr_layer = rate;
    auto learner = make_learner(toy_draft(toy_shape(), first_ids(kToyVocab), 1), f.rows, options);
    EXPECT_TRUE((*learner)->learn(f.refs).is_ok());
    return (*learner)->checksum();
  };
  EXPECT_EQ(learnt(LearnOptions::kDefaultRate), learnt(default_rate(toy_shape().hidden)));
  EXPECT_NE(learnt(LearnOptions::kDefaultRate), learnt(5e-4f));
}

TEST(Learner, NothingToLearnFromChangesNothing) {
  Fixture f({1000, 1001});  // no law has mass in it
  const DraftWeights before = f.learner->snapshot();
  auto result = f.learner->learn(f.refs);
  ASSERT_TRUE(result.is_ok());
  EXPECT_EQ(result->rows, 0);
  EXPECT_EQ(result->loss, 0);
  const TraceRecord short_one = toy_record({.served_tokens = 1});
  const TraceRecord* shorts[] = {&short_one};
  result = f.learner->learn(shorts);
  ASSERT_TRUE(result.is_ok());
  EXPECT_EQ(result->columns, 0);
  const DraftWeights after = f.learner->snapshot();
  EXPECT_EQ(before.wq, after.wq);
  EXPECT_EQ(before.output, after.output);
}

// Two served tokens: the only column is t = P-1. If the request's first draft were masked, nothing
// would move.
TEST(Learner, TheFirstDraftOfARequestIsTrained) {
  Fixture f;
  const TraceRecord r = toy_record({.served_tokens = 2});
  const TraceRecord* refs[] = {&r};
  const DraftWeights before = f.learner->snapshot();
  auto result = f.learner->learn(refs);
  ASSERT_TRUE(result.is_ok());
  EXPECT_EQ(result->rows, 1);
  EXPECT_NE(before.fc, f.learner->snapshot().fc);
}

TEST(Learner, ATapThatIsNotFiniteIsAnErrorAndLearnsNothing) {
  Fixture f;
  f.records[0].taps[20] = 0x7E00;
  const DraftWeights before = f.learner->snapshot();
  EXPECT_FALSE(f.learner->learn(f.refs).is_ok());
  EXPECT_EQ(before.fc, f.learner->snapshot().fc);
}

TEST(Learner, AnotherHiddenSizeIsRefused) {
  Fixture f;
  f.records[0].hidden = 4;
  EXPECT_EQ(f.learner->learn(f.refs).status().code(), StatusCode::kInvalid);
}

TEST(Learner, SaveAndLoadGoOnAsIfNothingHadHappened) {
  Fixture a, b;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(a.learner->learn(a.refs).is_ok());
  ASSERT_TRUE(b.learner->load(a.learner->save().joined()).is_ok());
  ASSERT_TRUE(a.learner->learn(a.refs).is_ok());
  ASSERT_TRUE(b.learner->learn(b.refs).is_ok());
  EXPECT_EQ(a.learner->snapshot().wq, b.learner->snapshot().wq);
  EXPECT_EQ(a.learner->snapshot().output, b.learner->snapshot().output);
}

TEST(Learner, SaveAndLoadGoOnWithEverythingThatIsDrawn) {
  LearnOptions options;
  options.unreached_share = 0.3f;
  options.average_updates = 8;
  options.dropout = 0.1f;
  options.tap_noise = 0.1f;
  Fixture a(first_ids(kToyVocab), options), b(first_ids(kToyVocab), options);
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(a.learner->learn(a.refs).is_ok());
  ASSERT_TRUE(b.learner->load(a.learner->save().joined()).is_ok());
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(a.learner->learn(a.refs).is_ok());
    ASSERT_TRUE(b.learner->learn(b.refs).is_ok());
  }
  EXPECT_EQ(a.learner->snapshot().wq, b.learner->snapshot().wq);
  EXPECT_EQ(a.learner->save().joined(), b.learner->save().joined());
}

// Serving goes on to step k where the k drafted tokens before were accepted: so does training.
TEST(Learner, LaterStepsAreTrainedWhereServingGetsThere) {
  LearnOptions options = Fixture::plain();
  options.unreached_share = 0;
  Fixture f(first_ids(kToyVocab), options);
  const int columns = 6 * 11;
  for (int step = 0; step < 150; ++step) {
    auto leads = f.learner->leads(f.refs, 3);
    auto result = f.learner->learn(f.refs);
    ASSERT_TRUE(leads.is_ok() && result.is_ok());
    int rows = 0;  // of 3 steps: a column's own, and one more for each match before the last step
    for (const Leads& record : *leads)
      for (size_t i = 0; i < record.size(); ++i)
        rows += 1 + std::min({int{record[i]}, 2, static_cast<int>(record.size() - 1 - i)});
    EXPECT_EQ(result->rows, rows) << "step " << step;
    EXPECT_EQ(result->columns, columns);
  }
  EXPECT_GT(f.accept_len(*f.learner), 3.0);
}

TEST(Learner, TheMeanOfTheWeightsServes) {
  LearnOptions options = Fixture::plain();
  options.average_updates = 40;
  Fixture mean(first_ids(kToyVocab), options), last;
  for (int step = 0; step < 150; ++step) {
    ASSERT_TRUE(mean.learner->learn(mean.refs).is_ok());
    ASSERT_TRUE(last.learner->learn(last.refs).is_ok());
  }
  EXPECT_NE(mean.learner->snapshot().wq, last.learner->snapshot().wq);
  EXPECT_GT(mean.accept_len(*mean.learner), 3.0);
  // What it serves is what it scores.
  auto scorer = make_scorer(mean.learner->snapshot(), mean.rows, options);
  ASSERT_TRUE(scorer.is_ok());
  EXPECT_EQ(*mean.learner->leads(mean.refs, 3), *(*scorer)->leads(mean.refs, 3));
  // A new vocabulary keeps it so.
  std::vector<int64_t> ids = first_ids(kToyVocab);
  ids.erase(ids.begin());
  ASSERT_TRUE(mean.learner->set_vocab(ids).is_ok());
  scorer = make_scorer(mean.learner->snapshot(), mean.rows, options);
  EXPECT_EQ(*mean.learner->leads(mean.refs, 3), *(*scorer)->leads(mean.refs, 3));
}

// A row as the target has it would stand above rows that training has pushed down.
TEST(Learner, AFreshHeadRowIsMovedAsTheOthersWere) {
  std::vector<int64_t> ids = first_ids(kToyVocab);
  const int64_t fresh = ids.back();
  ids.pop_back();
  Fixture f(ids);
  for (int step = 0; step < 20; ++step) ASSERT_TRUE(f.learner->learn(f.refs).is_ok());
  const DraftWeights trained = f.learner->snapshot();
  ASSERT_TRUE(f.learner->set_vocab(first_ids(kToyVocab)).is_ok());
  const DraftWeights grown = f.learner->snapshot();
  const size_t d = static_cast<size_t>(toy_shape().hidden);
  std::vector<float> target(kToyVocab * d);
  ASSERT_TRUE(f.rows.head_rows(grown.d2t, target.data()).is_ok());
  ASSERT_EQ(grown.d2t.back(), fresh);
  EXPECT_TRUE(std::equal(trained.output.begin(), trained.output.end(), grown.output.begin()));
  for (size_t i = 0; i < d; ++i) {
    double moved = 0;
    for (size_t row = 0; row < ids.size(); ++row)
      moved += double{trained.output[row * d + i]} - double{target[row * d + i]};
    moved /= static_cast<double>(ids.size());
    EXPECT_NE(moved, 0);
    const size_t at = ids.size() * d + i;
    EXPECT_NEAR(double{grown.output[at]}, double{target[at]} + moved, 1e-5);
  }
}

TEST(Learner, PromptRowsAreLearntByTheirWeight) {
  LearnOptions options = Fixture::plain();
  options.prompt_rows_max = 3;
  Fixture with(first_ids(kToyVocab), options), without;
  auto result = with.learner->learn(with.refs);
  ASSERT_TRUE(result.is_ok());
  EXPECT_EQ(result->columns, 6 * (11 + 3));
  EXPECT_EQ(result->rows, 6 * (14 + 13 + 12));
  ASSERT_TRUE(without.learner->learn(without.refs).is_ok());
  EXPECT_NE(with.learner->snapshot().wq, without.learner->snapshot().wq);
}

TEST(Learner, GoesBackToWhatWasGood) {
  LearnOptions options = Fixture::plain();
  Fixture f(first_ids(kToyVocab), options);
  EXPECT_FALSE(f.learner->go_back());
  for (int step = 0; step < 150; ++step) ASSERT_TRUE(f.learner->learn(f.refs).is_ok());
  EXPECT_GT(f.accept_len(*f.learner), 3.0);
  const DraftWeights good = f.learner->snapshot();
  f.learner->keep_good();
  std::vector<int64_t> ids = first_ids(kToyVocab);
  ids.erase(ids.begin());
  ASSERT_TRUE(f.learner->set_vocab(ids).is_ok());
  // Poisoned labels: every token's law says another.
  std::vector<TraceRecord> lies = f.records;
  std::vector<const TraceRecord*> refs;
  for (TraceRecord& r : lies) {
    for (int32_t& id : r.laws.ids) id = (id + 11) % kToyVocab;
    refs.push_back(&r);
  }
  for (int step = 0; step < 60; ++step) ASSERT_TRUE(f.learner->learn(refs).is_ok());
  EXPECT_LT(f.accept_len(*f.learner), 2.0);
  ASSERT_TRUE(f.learner->go_back());
  EXPECT_GT(f.accept_len(*f.learner), 2.7);  // one token is no longer in its vocabulary
  const DraftWeights back = f.learner->snapshot();
  EXPECT_EQ(back.d2t, ids);
  for (size_t i = 0; i < good.wq.size(); ++i) EXPECT_NEAR(back.wq[i], good.wq[i], 1e-2);
  EXPECT_TRUE(f.learner->learn(f.refs).is_ok());
}

TEST(Learner, LoadRefusesAnotherShapeAndChangesNothing) {
  Fixture a;
  DraftShape wide = toy_shape();
  wide.ff = 16;
  auto other = make_learner(toy_draft(wide, first_ids(kToyVocab), 1), a.rows, {});
  const DraftWeights before = a.learner->snapshot();
  EXPECT_FALSE(a.learner->load((*other)->save().joined()).is_ok());
  std::vector<std::byte> cut = a.learner->save().joined();
  cut.resize(cut.size() - 5);
  EXPECT_FALSE(a.learner->load(cut).is_ok());
  EXPECT_EQ(before.wq, a.learner->snapshot().wq);
}

constexpr ObjectiveKind kKinds[] = {
    ObjectiveKind::kForwardKl,    ObjectiveKind::kReverseKl,       ObjectiveKind::kCrossEntropy,
    ObjectiveKind::kAcceptLen,    ObjectiveKind::kAcceptLenGreedy, ObjectiveKind::kOverlapNla,
    ObjectiveKind::kOverlapBlend,
};

// Two refused tokens behind x_7 and one behind x_9, P = 5.
void add_refused(Fixture& f, int64_t version = 1) {
  for (TraceRecord& r : f.records) {
    add_step(r, {.first = 7, .accepted = 1, .refused = {33, 34}, .draft_version = version});
    add_step(r, {.first = 9, .accepted = 1, .refused = {35}, .draft_version = version});
  }
}

TEST(Learner, RefusedTokensAreNotLearntByDefault) {
  Fixture plain, refused;
  add_refused(refused);
  ASSERT_TRUE(plain.learner->learn(plain.refs).is_ok());
  auto result = refused.learner->learn(refused.refs);
  ASSERT_TRUE(result.is_ok());
  EXPECT_EQ(result->branch_rows, 0);
  EXPECT_EQ(plain.learner->snapshot().wq, refused.learner->snapshot().wq);
  EXPECT_EQ(plain.learner->snapshot().output, refused.learner->snapshot().output);
}

TEST(Learner, RefusedTokensAreLearntByLambda) {
  LearnOptions options = Fixture::plain();
  options.discard_lambda = 1.0f;
  Fixture f(first_ids(kToyVocab), options), plain;
  add_refused(f);
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    auto both = f.learner->learn(f.refs);
    auto path = plain.learner->learn(plain.refs);
    ASSERT_TRUE(both.is_ok() && path.is_ok()) << both.status().to_string();
    EXPECT_EQ(both->rows, path->rows);
    EXPECT_EQ(both->columns, 6 * (11 + 3));
    EXPECT_EQ(both->branch_rows, 6 * (2 + 1 + 1));  // steps 0 and 1 of the chain of two, the single
    (step == 0 ? first : last) = both->loss - path->loss;
  }
  EXPECT_GT(first, 1);
  EXPECT_LT(last, 0.6 * first);
}

TEST(Learner, BranchesOfOldDraftsAreLeftOut) {
  LearnOptions options = Fixture::plain();
  options.discard_lambda = 1.0f;
  options.branch_versions_max = 2;
  Fixture f(first_ids(kToyVocab), options);
  add_refused(f, 3);
  EXPECT_EQ(f.learner->learn(f.refs)->branch_rows, 6 * 4);
  f.records[0].steps[0].draft_version = f.records[0].steps[1].draft_version = 5;
  EXPECT_EQ(f.learner->learn(f.refs)->branch_rows, 6 * 4);
  f.records[0].steps[0].draft_version = 6;
  EXPECT_EQ(f.learner->learn(f.refs)->branch_rows, 4);
  EXPECT_EQ(f.learner->learn({f.refs.data() + 1, 5})->branch_rows, 0);  // it remembers the newest
}

TEST(Learner, AnAllMaskedBatchIsZeroForEveryObjective) {
  for (ObjectiveKind kind : kKinds) {
    LearnOptions options;
    options.objective = kind;
    options.discard_lambda = 1.0f;
    options.reach_weights = true;
    Fixture f({1000, 1001}, options);
    add_refused(f);
    const DraftWeights before = f.learner->snapshot();
    auto result = f.learner->learn(f.refs);
    ASSERT_TRUE(result.is_ok()) << result.status().to_string();
    EXPECT_EQ(result->rows + result->branch_rows, 0);
    EXPECT_EQ(result->loss, 0);
    EXPECT_EQ(before.wq, f.learner->snapshot().wq);
  }
}

// Not how well, only that each of them learns the language of the toys.
TEST(Learner, EveryObjectiveLearns) {
  for (ObjectiveKind kind : kKinds) {
    LearnOptions options;
    options.objective = kind;
    Fixture f(first_ids(kToyVocab), options);
    double first = 0, last = 0;
    for (int step = 0; step < 120; ++step) {
      auto result = f.learner->learn(f.refs);
      ASSERT_TRUE(result.is_ok()) << result.status().to_string();
      (step == 0 ? first : last) = result->loss;
    }
    EXPECT_LT(last, 0.9 * first) << static_cast<int>(kind);
    EXPECT_GT(f.accept_len(*f.learner), 1.5) << static_cast<int>(kind);
  }
}

TEST(Learner, ANewVocabularyKeepsSurvivingRows) {
  Fixture f({1, 5, 9});
  const std::vector<float> before = f.learner->snapshot().output;
  ASSERT_TRUE(f.learner->set_vocab({0, 5, 9, 20}).is_ok());
  const DraftWeights after = f.learner->snapshot();
  EXPECT_EQ(after.d2t, (std::vector<int64_t>{0, 5, 9, 20}));
  EXPECT_TRUE(std::equal(before.begin() + 8, before.begin() + 24, after.output.begin() + 8));
  EXPECT_TRUE(f.learner->learn(f.refs).is_ok());
}

// Two updates by hand: m, v start at 0, g = 1 then 2; rate 0.1, decay 0.5.
TEST(AdamW, TwoUpdatesByHand) {
  float w = 1, m = 0, v = 0, g = 2;
  const AdamW options = {.beta1 = 0.9f, .beta2 = 0.99f, .eps = 0, .weight_decay = 0.5f};
  adamw_update(options, {&w, &g, &m, &v, 1}, 1, 0.1f, 0.5f);
  EXPECT_NEAR(w, 1 - 0.05 - 0.1, 1e-6);  // the first step is one rate long
  g = 2;
  adamw_update(options, {&w, &g, &m, &v, 1}, 2, 0.1f, 1.0f);
  const double mean = (0.09 + 0.2) / (1 - 0.81), square = (0.0099 + 0.04) / (1 - 0.9801);
  EXPECT_NEAR(w, 0.85 * 0.95 - 0.1 * mean / std::sqrt(square), 1e-5);
}

TEST(AdamW, SumOfSquares) {
  std::vector<float> x(10007, 0.5f);
  EXPECT_NEAR(sum_of_squares(x.data(), x.size()), 10007 * 0.25, 1e-3);
}

}  // namespace
}  // namespace aurora
