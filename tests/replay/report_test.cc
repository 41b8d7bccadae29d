#include "replay/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "replay/plot.h"

namespace aurora {
namespace {

using nlohmann::json;

// Requests of 10 tokens; `steps` target steps each.
void serve(Report* report, const std::string& domain, int count, double steps, int64_t version) {
  for (int i = 0; i < count; ++i) {
    Totals totals = report->samples.empty() ? report->start : report->samples.back().totals;
    totals.generated_tokens += 10;
    totals.target_steps += steps;
    if (version != totals.draft_version) ++totals.swaps;
    totals.draft_version = version;
    report->samples.push_back(
        {.id = "r",
         .domain = domain,
         .tokens = 10,
         .decode_ms = 100,
         .served_tokens = 10 * static_cast<int64_t>(report->samples.size() + 1),
         .totals = totals});
  }
}

Report two_domains() {
  Report report;
  report.start = {.generated_tokens = 1000, .target_steps = 900, .draft_version = 3, .swaps = 7};
  serve(&report, "a", 50, 10, 3);
  serve(&report, "a", 50, 5, 4);
  serve(&report, "b<&>", 20, 8, 5);
  return report;
}

TEST(Report, WindowsCountOnlyWhatHappenedInThem) {
  const std::vector<Window> windows = windows_of(two_domains());
  ASSERT_EQ(windows.size(), 3u);
  EXPECT_DOUBLE_EQ(windows[0].accept_len, 1.0);
  EXPECT_DOUBLE_EQ(windows[1].accept_len, 2.0);
  EXPECT_DOUBLE_EQ(windows[2].accept_len, 1.25);
  EXPECT_DOUBLE_EQ(windows[1].tokens_per_s, 100.0);
  EXPECT_EQ(windows[1].served_tokens, 1000);
  EXPECT_EQ(windows[2].last - windows[2].first, 20u);
  EXPECT_EQ(windows[1].draft_version, 4);
}

TEST(Report, SwapsAreThoseOfTheReplayAndMarkedWhereTheyWereSeen) {
  const Report report = two_domains();
  EXPECT_EQ(swap_count(report), 2);
  const std::vector<SwapMark> marks = swap_marks(report);
  ASSERT_EQ(marks.size(), 2u);
  EXPECT_EQ(marks[0].request, 50u);
  EXPECT_EQ(marks[0].served_tokens, 500);
  EXPECT_EQ(marks[1].version, 5);
}

TEST(Report, PairsBelongToTheWindowTheyFollow) {
  Report report = two_domains();
  report.pairs = {{"p", 50, 10, 50, 10, 100, true, false}, {"q", 51, 10, 100, 10, 50, false, true}};
  const std::vector<Window> windows = windows_of(report);
  EXPECT_DOUBLE_EQ(windows[0].baseline_tokens_per_s, 200);
  EXPECT_DOUBLE_EQ(windows[1].baseline_tokens_per_s, 100);
  EXPECT_DOUBLE_EQ(windows[2].baseline_tokens_per_s, 0);
  const Baseline baseline = baseline_of(report);
  EXPECT_EQ(baseline.drafted_pairs, 1u);
  EXPECT_DOUBLE_EQ(baseline.speedup, 2.0);
  EXPECT_EQ(baseline.same_text, 1u);
}

TEST(Report, DomainsThatAlternateAreOneMixedRun) {
  Report report;
  for (int i = 0; i < 10; ++i) serve(&report, i % 2 == 0 ? "a" : "b", 1, 10, 0);
  ASSERT_EQ(domain_runs(report).size(), 1u);
  EXPECT_EQ(domain_runs(report)[0].domain, "mixed");
  EXPECT_EQ(domain_runs(two_domains()).size(), 2u);
}

TEST(Report, JsonHasThePromisedFields) {
  Report report = two_domains();
  report.failed = 1;
  report.failures = {"bytes that are no UTF-8: \xff"};
  const json object = json::parse(report_json(report));
  EXPECT_EQ(object["failed"], 1);
  EXPECT_EQ(object["swaps"], 2);
  ASSERT_EQ(object["windows"].size(), 3u);
  for (const char* key :
       {"served_tokens", "requests", "accept_len", "tokens_per_s", "draft_version"}) {
    EXPECT_TRUE(object["windows"][0].contains(key)) << key;
  }
  EXPECT_EQ(object["domains"][0]["accept_len_requests_26_75"], 1.3333);
  EXPECT_EQ(object["domains"][0]["accept_len_last_50"], 2.0);
  EXPECT_FALSE(object["domains"][1].contains("accept_len_requests_26_75"));
  EXPECT_EQ(object["samples"].size(), 120u);
}

TEST(Report, NothingServedIsStillAReport) {
  Report report;
  report.failed = 3;
  EXPECT_EQ(json::parse(report_json(report))["windows"].size(), 0u);
  EXPECT_NE(report_svg(report).find("No request was served"), std::string::npos);
  EXPECT_NE(report_html(report).find("</html>"), std::string::npos);
  EXPECT_NE(report_summary(report).find("3 failed"), std::string::npos);
}

TEST(Report, PageIsSelfContainedAndMarksSwaps) {
  const std::string page = report_html(two_domains());
  for (const char* fetched : {"<script", "<link", "<img", "url(", "@import", "src="}) {
    EXPECT_EQ(page.find(fetched), std::string::npos) << fetched;
  }
  EXPECT_NE(page.find(">v4</text>"), std::string::npos);
  EXPECT_NE(page.find(">v5</text>"), std::string::npos);
  EXPECT_NE(page.find("b&lt;&amp;&gt;"), std::string::npos);
  EXPECT_EQ(page.find("b<&>"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace aurora
