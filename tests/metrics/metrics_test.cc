#include "metrics/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "metrics/aurora_metrics.h"
#include "metrics/parse.h"
#include "metrics/trainer_status.h"
#include "registry/temp_dir.h"

namespace aurora {
namespace {

TEST(Metrics, TextIsTheExpositionFormat) {
  Metrics metrics;
  metrics.counter("a_total", "Things\ndone.").add(3);
  metrics.gauge("g", "A gauge.").set(1.5);
  metrics.counter("b_total", "By cause.", label("cause", "x")).add();
  metrics.counter("b_total", "By cause.", label("cause", "say \"hi\"\\")).add(2);
  metrics.time_counter("t_seconds_total", "Time.").add_ns(2'500'000'000);
  EXPECT_EQ(metrics.text(),
            "# HELP a_total Things\\ndone.\n# TYPE a_total counter\na_total 3\n"
            "# HELP g A gauge.\n# TYPE g gauge\ng 1.5\n"
            "# HELP b_total By cause.\n# TYPE b_total counter\nb_total{cause=\"x\"} 1\n"
            "b_total{cause=\"say \\\"hi\\\"\\\\\"} 2\n"
            "# HELP t_seconds_total Time.\n# TYPE t_seconds_total counter\nt_seconds_total 2.5\n");
}

TEST(Metrics, SameNameAndLabelsAreTheSameObject) {
  Metrics metrics;
  Counter& first = metrics.counter("a_total", "A.");
  for (int i = 0; i < 100; ++i) metrics.counter("a_total", "A.", label("i", std::to_string(i)));
  EXPECT_EQ(&first, &metrics.counter("a_total", "A."));
  EXPECT_DEATH(metrics.gauge("a_total", "A."), "CHECK");
}

TEST(Metrics, WhatAnotherProcessCountsIsACounter) {
  Metrics metrics;
  metrics.counter_of_another("o_total", "O.").set(7);
  EXPECT_EQ(metrics.text(), "# HELP o_total O.\n# TYPE o_total counter\no_total 7\n");
}

TEST(Metrics, HistogramBucketsAreCumulative) {
  Metrics metrics;
  Histogram& histogram = metrics.histogram("h", "H.", {1, 2.5}, label("slot", "0"));
  for (const double value : {0.5, 1.0, 2.0, 99.0, std::nan("")}) histogram.observe(value);
  const auto samples = parse_metrics(metrics.text());
  EXPECT_EQ(samples.at("h_bucket{slot=\"0\",le=\"1\"}"), 2);
  EXPECT_EQ(samples.at("h_bucket{slot=\"0\",le=\"2.5\"}"), 3);
  EXPECT_EQ(samples.at("h_bucket{slot=\"0\",le=\"+Inf\"}"), 4);
  EXPECT_EQ(samples.at("h_count{slot=\"0\"}"), 4);
  EXPECT_EQ(samples.at("h_sum{slot=\"0\"}"), 102.5);
}

TEST(Metrics, ThreadsAddWhileAnotherReads) {
  Metrics metrics;
  Counter& counter = metrics.counter("a_total", "A.");
  Histogram& histogram = metrics.histogram("h", "H.", {1});
  std::vector<std::jthread> writers;
  for (int t = 0; t < 3; ++t) {
    writers.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) {
        counter.add();
        histogram.observe(0.5);
      }
    });
  }
  double last = 0;
  for (int i = 0; i < 100; ++i) {
    const double now = parse_metrics(metrics.text()).at("a_total");
    EXPECT_GE(now, last);
    last = now;
  }
  writers.clear();
  EXPECT_EQ(counter.value(), 30'000u);
  EXPECT_EQ(histogram.sum(), 15'000);
}

TEST(ParseMetrics, TakesSamplesAndSkipsTheRest) {
  const auto samples = parse_metrics(
      "# HELP x y\n\nx 1\nx{a=\"} 7 {\",b=\"\\\"\"} 2e3 1700000000\n  y\t-0.5\r\nbad\nworse one\n"
      "z{open=\"1 3\nn NaN\ni +Inf\nx 4");
  EXPECT_EQ(samples.at("x"), 4);
  EXPECT_EQ(samples.at("x{a=\"} 7 {\",b=\"\\\"\"}"), 2000);
  EXPECT_EQ(samples.at("y"), -0.5);
  EXPECT_TRUE(std::isnan(samples.at("n")));
  EXPECT_EQ(samples.at("i"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(samples.size(), 5u);
}

TEST(ServeMetrics, EveryNameIsThereAtZero) {
  Metrics metrics;
  const ServeMetrics serve(metrics);
  const auto samples = parse_metrics(metrics.text());
  for (const char* name :
       {"aurora:spec_decode_num_drafts_total", "aurora:spec_decode_num_draft_tokens_total",
        "aurora:spec_decode_num_accepted_tokens_total",
        "aurora:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"}",
        "aurora:spec_decode_num_accepted_tokens_per_pos_total{position=\"7\"}",
        "aurora:traces_dropped_total{cause=\"queue_full\"}",
        "aurora:traces_dropped_total{cause=\"not_completion\"}",
        "aurora:drafting_skipped_total{cause=\"error\"}",
        "aurora:draft_refused_total{reason=\"mismatch\"}", "aurora:draft_version",
        "aurora:capture_seconds_total", "aurora:trainer_alive"}) {
    ASSERT_TRUE(samples.contains(name)) << name;
    EXPECT_EQ(samples.at(name), 0) << name;
  }
}

TEST(ServeMetrics, CausesLandWhereTheySay) {
  Metrics metrics;
  const ServeMetrics serve(metrics);
  serve.traces_dropped(TraceDrop::kNotCompletion).add(2);
  serve.traces_dropped(TraceDrop::kBufferIo).add(4);
  serve.drafting_skipped(DraftSkip::kRowsMissing).add(3);
  serve.accepted_at(99).add();
  serve.draft_refused(StatusCode::kInvalid).add();
  serve.draft_refused(StatusCode::kInternal).add();
  const auto samples = parse_metrics(metrics.text());
  EXPECT_EQ(samples.at("aurora:traces_dropped_total{cause=\"not_completion\"}"), 2);
  EXPECT_EQ(samples.at("aurora:traces_dropped_total{cause=\"buffer_io\"}"), 4);
  EXPECT_EQ(samples.at("aurora:drafting_skipped_total{cause=\"rows_missing\"}"), 3);
  EXPECT_EQ(samples.at("aurora:spec_decode_num_accepted_tokens_per_pos_total{position=\"7\"}"), 1);
  EXPECT_EQ(samples.at("aurora:draft_refused_total{reason=\"mismatch\"}"), 1);
  EXPECT_EQ(samples.at("aurora:draft_refused_total{reason=\"io\"}"), 1);
}

TEST(TrainerStatus, RoundTripAndSilence) {
  const TempDir dir;
  const std::string path = dir.path() + "/trainer.status";
  EXPECT_EQ(read_trainer_status(path).status().code(), StatusCode::kNotFound);
  constexpr int64_t kNowMs = 1'700'000'000'123;
  TrainerStatus written{kNowMs, 12, 3456.5, 789, 4};
  written.loss = 2.5;
  written.holdout_accept_len = 1.75;
  written.published = 3;
  ASSERT_TRUE(write_trainer_status(path, written));
  const Result<TrainerStatus> read = read_trainer_status(path);
  ASSERT_TRUE(read) << read.status().to_string();
  EXPECT_EQ(read->updated_ms, kNowMs);
  EXPECT_EQ(read->lag_records, 12);
  EXPECT_EQ(read->rows_per_second, 3456.5);
  EXPECT_EQ(read->steps, 789);
  EXPECT_EQ(read->dropped_records, 4);

  Metrics metrics;
  ServeMetrics serve(metrics);
  serve.read_trainer(path, kNowMs + 1000);
  EXPECT_EQ(serve.trainer_alive.value(), 1);
  EXPECT_EQ(serve.trainer(&TrainerStatus::rows_per_second), 3456.5);
  EXPECT_EQ(serve.trainer(&TrainerStatus::loss), 2.5);
  EXPECT_EQ(serve.trainer(&TrainerStatus::holdout_accept_len), 1.75);
  serve.read_trainer(path, kNowMs + kTrainerSilenceMsMax + 1);
  EXPECT_EQ(serve.trainer_alive.value(), 0);
  EXPECT_EQ(serve.trainer(&TrainerStatus::steps), 789);
  EXPECT_EQ(serve.trainer(&TrainerStatus::dropped_records), 4);
  serve.read_trainer(path + ".none", kNowMs);
  EXPECT_EQ(serve.trainer_alive.value(), 0);
}

TEST(TrainerStatus, EveryFigureIsThereAndComesBack) {
  const TempDir dir;
  const std::string path = dir.path() + "/trainer.status";
  TrainerStatus written;
  double next = 1;
  for (const TrainerFigure& figure : trainer_figures()) written.*figure.value = next++;
  ASSERT_TRUE(write_trainer_status(path, written));
  const Result<TrainerStatus> read = read_trainer_status(path);
  ASSERT_TRUE(read) << read.status().to_string();
  next = 1;
  for (const TrainerFigure& figure : trainer_figures())
    EXPECT_EQ((*read).*figure.value, next++) << figure.name << figure.labels;
  EXPECT_EQ(sizeof(TrainerStatus), trainer_figures().size() * sizeof(double));
}

TEST(TrainerStatus, AllOfItReachesTheServersMetricsButItsTime) {
  const TempDir dir;
  TrainerStatus written;
  double next = 1;
  for (const TrainerFigure& figure : trainer_figures()) written.*figure.value = next++;
  ASSERT_TRUE(write_trainer_status(dir.path() + "/s", written));
  Metrics metrics;
  ServeMetrics serve(metrics);
  serve.read_trainer(dir.path() + "/s", 2);
  const auto samples = parse_metrics(metrics.text());
  next = 1;
  for (const TrainerFigure& figure : trainer_figures()) {
    const std::string labels = figure.labels;
    const std::string key = figure.name + (labels.empty() ? "" : "{" + labels + "}");
    if (figure.value == &TrainerStatus::updated_ms) EXPECT_FALSE(samples.contains(key));
    else EXPECT_EQ(samples.at(key), next) << key;
    ++next;
  }
}

TEST(TrainerStatus, BrokenFileIsAValue) {
  const TempDir dir;
  dir.write("s", "aurora:trainer_updated_ms nan\n");
  EXPECT_EQ(read_trainer_status(dir.path() + "/s").status().code(), StatusCode::kCorrupt);
}

TEST(TrainerStatus, AnOlderTrainersFileReads) {
  const TempDir dir;
  dir.write("s",
            "aurora:trainer_updated_ms 5\naurora:trainer_lag_records 4\n"
            "aurora:trainer_rows_per_second 3\naurora:trainer_steps_total 2\n"
            "aurora:trainer_dropped_records_total 1\naurora:trainer_loss nan\n");
  const Result<TrainerStatus> read = read_trainer_status(dir.path() + "/s");
  ASSERT_TRUE(read) << read.status().to_string();
  EXPECT_EQ(read->steps, 2);
  EXPECT_EQ(read->published, 0);
  EXPECT_EQ(read->loss, 0);
}

TEST(Comments, AreSkippedBySamplesAndRead) {
  const std::string text = "a 1\n" + comment_line("aurora:x", "two\nlines") + "b 2\n";
  EXPECT_EQ(comment_of(text, "aurora:x"), "two lines");
  EXPECT_EQ(comment_of(text, "aurora:y"), "");
  EXPECT_EQ(parse_metrics(text).size(), 2u);
  EXPECT_EQ(comment_line("aurora:x", ""), "");
}

}  // namespace
}  // namespace aurora
