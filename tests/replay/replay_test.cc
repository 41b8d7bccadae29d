// `aurora replay` against a server made for the test: it answers like llama-server, counts like
// ours.
#include "replay/replay.h"

#include <cpp-httplib/httplib.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace aurora {
namespace {

using nlohmann::json;

class FakeServer {
 public:
  FakeServer() {
    server_.Get("/health", [](const httplib::Request&, httplib::Response& out) {
      out.set_content("{}", "application/json");
    });
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& out) {
      const std::lock_guard lock(mutex_);
      if (!has_metrics) out.status = 501;
      else out.set_content(metrics_text(), "text/plain");
    });
    server_.Post("/v1/chat/completions",
                 [this](const httplib::Request& in, httplib::Response& out) {
                   const std::lock_guard lock(mutex_);
                   answer(in, out);
                 });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    server_.wait_until_ready();
  }
  ~FakeServer() {
    server_.stop();
    thread_.join();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // Set before the replay starts.
  bool has_metrics = true;
  bool knows_speculate_header = true;
  int loading_answers = 0;  // 503 with these many first
  int fail_request = 0;     // the number of the request that gets a 500

  // Read after it has ended.
  int served = 0, plain_served = 0;
  std::map<std::string, int> domains;
  json last_body;

 private:
  static constexpr int kTokens = 12, kStepsWithDraft = 8;

  void answer(const httplib::Request& in, httplib::Response& out) {
    if (loading_answers-- > 0) {
      out.status = 503;
      out.set_content(R"({"error":{"message":"Loading model","code":503}})", "application/json");
      return;
    }
    const bool plain = in.get_header_value("X-Aurora-Speculate") == "off" && knows_speculate_header;
    if (in.get_header_value("X-Aurora-Speculate") != "off" && ++served == fail_request) {
      out.status = 500;
      out.set_content("broken", "text/plain");
      return;
    }
    plain_served += plain ? 1 : 0;
    ++domains[in.get_header_value("X-Aurora-Domain")];
    last_body = json::parse(in.body);
    generated_ += kTokens;
    steps_ += plain ? kTokens : kStepsWithDraft;
    json timings = {{"predicted_n", kTokens}, {"predicted_ms", plain ? 100.0 : 200.0}};
    if (!plain) timings.update({{"draft_n", 9}, {"draft_n_accepted", kTokens - kStepsWithDraft}});
    const json body = {{"choices", {{{"message", {{"role", "assistant"}, {"content", "so"}}}}}},
                       {"timings", timings}};
    out.set_content(body.dump(), "application/json");
  }

  std::string metrics_text() const {
    const int version = served / 5;
    return "# HELP aurora:generated_tokens_total x\naurora:generated_tokens_total " +
           std::to_string(1000 + generated_) + "\naurora:target_steps_total " +
           std::to_string(900 + steps_) + "\naurora:draft_version " + std::to_string(version) +
           "\naurora:swaps_total " + std::to_string(version) + "\nllamacpp:other 3\n";
  }

  httplib::Server server_;
  std::thread thread_;
  int port_ = 0;
  std::mutex mutex_;
  int generated_ = 0, steps_ = 0;
};

struct Outcome {
  int code = 0;
  json report;
  std::string page;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Outcome replay(const std::string& url, std::vector<std::string> more, int prompt_count = 20) {
  const std::string base = testing::TempDir() + "/aurora-replay-" +
                           testing::UnitTest::GetInstance()->current_test_info()->name();
  std::ofstream traffic(base + ".jsonl");
  for (int i = 0; i < prompt_count; ++i) {
    traffic << json{{"id", "t/" + std::to_string(i)},
                    {"domain", i < prompt_count / 2 ? "first" : "second"},
                    {"messages", {{{"role", "user"}, {"content", "hello"}}}}}
                   .dump()
            << "\n";
  }
  traffic.close();
  std::vector<std::string> arguments = {base + ".jsonl", "--url",        url,
                                        "--json",        base + ".json", "--html",
                                        base + ".html",  "--svg",        base + ".svg"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Outcome outcome;
  outcome.code = replay_main(arguments);
  outcome.report = json::parse(read_all(base + ".json"), nullptr, false);
  outcome.page = read_all(base + ".html");
  return outcome;
}

TEST(Replay, SendsEveryPromptOnceAndReports) {
  FakeServer server;
  const Outcome outcome = replay(server.url(), {"--max-tokens", "33"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(server.served, 20);
  EXPECT_EQ(server.domains, (std::map<std::string, int>{{"first", 10}, {"second", 10}}));
  EXPECT_EQ(server.last_body["max_tokens"], 33);
  EXPECT_EQ(server.last_body["messages"][0]["content"], "hello");
  EXPECT_EQ(outcome.report["failed"], 0);
  EXPECT_EQ(outcome.report["swaps"], 4);
  EXPECT_EQ(outcome.report["windows"][0]["accept_len"], 1.5);
  EXPECT_EQ(outcome.report["windows"][0]["served_tokens"], 240);
  EXPECT_EQ(outcome.report["windows"][0]["tokens_per_s"], 60);
  EXPECT_EQ(outcome.report["metrics"]["aurora:swaps_total"], 4);
  EXPECT_NE(outcome.page.find("</svg>"), std::string::npos);
}

TEST(Replay, BaselineRoundsStayOutOfTheWindows) {
  FakeServer server;
  const Outcome outcome = replay(server.url(), {"--baseline-every", "5", "--concurrency", "2"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(server.plain_served, 8);
  EXPECT_EQ(outcome.report["requests"], 20);
  EXPECT_EQ(outcome.report["windows"][0]["accept_len"], 1.5);
  EXPECT_EQ(outcome.report["windows"][0]["baseline_tokens_per_s"], 120);
  EXPECT_EQ(outcome.report["baseline"]["pairs"], 8);
  EXPECT_EQ(outcome.report["baseline"]["same_text"], 8);
  EXPECT_EQ(outcome.report["baseline"]["speedup"], 0.5);
}

TEST(Replay, AServerThatIgnoresTheHeaderGivesNoBaseline) {
  FakeServer server;
  server.knows_speculate_header = false;
  const Outcome outcome = replay(server.url(), {"--baseline-every", "5"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.report["baseline"]["pairs"], 0);
}

TEST(Replay, WithoutFiguresOfOursTheAnswersTimingsCount) {
  FakeServer server;
  server.has_metrics = false;
  const Outcome outcome = replay(server.url(), {"--concurrency", "4"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.report["accept_source"], "timings");
  EXPECT_EQ(outcome.report["windows"][0]["accept_len"], 1.5);
}

TEST(Replay, WaitsWhileTheServerLoads) {
  FakeServer server;
  server.loading_answers = 2;
  EXPECT_EQ(replay(server.url(), {}, 3).report["requests"], 3);
}

TEST(Replay, AFailedRequestIsCountedAndTheRestGoesOn) {
  FakeServer server;
  server.fail_request = 7;
  const Outcome outcome = replay(server.url(), {});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.report["failed"], 1);
  EXPECT_EQ(outcome.report["requests"], 19);
  EXPECT_EQ(outcome.report["failures"][0], "t/6: HTTP 500: broken");
}

TEST(Replay, NobodyThereIsOneSentenceAndExitCodeOne) {
  testing::internal::CaptureStderr();
  const Outcome outcome = replay("http://127.0.0.1:9", {});
  EXPECT_EQ(outcome.code, 1);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("aurora replay: no server at http://127.0.0.1:9"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

}  // namespace
}  // namespace aurora
