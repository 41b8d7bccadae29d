// Drafts and reports through a real nats-server.
#include "registry/draft_exchange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <thread>

#include "base/files.h"
#include "base/sha256.h"
#include "metrics/parse.h"
#include "nats/jetstream.h"
#include "nats/nats_server.h"
#include "nats/preface.h"
#include "registry/draft_courier.h"
#include "registry/manifest.h"

namespace aurora {
namespace {

constexpr const char* kTarget = "0123456789abcdef";

class DraftExchangeTest : public testing::Test {
 protected:
  NatsUrl url(const std::string& more = "") const {
    auto parsed = parse_nats_url("nats://" + server_.address() + "/?prefix=t" + more);
    EXPECT_TRUE(parsed);
    return *parsed;
  }
  std::unique_ptr<NatsConnection> connect() const {
    auto connection = NatsConnection::open(url(), "test");
    EXPECT_TRUE(connection && (*connection)->wait_connected(20000));
    return std::move(*connection);
  }
  Registry registry(const std::string& name) const { return *Registry::open(dir_ / name); }

  static std::string random_bytes(size_t count, uint32_t seed) {
    std::mt19937 rng(seed);
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng());
    return bytes;
  }
  static DraftManifest publish(Registry& registry, const std::string& content) {
    EXPECT_TRUE(write_file_atomically(registry.stage_path(), content));
    DraftManifest manifest;
    manifest.target = kTarget;
    auto published = registry.publish(registry.stage_path(), manifest);
    EXPECT_TRUE(published) << published.status().to_string();
    return *published;
  }
  static bool comes_true(const std::function<bool()>& condition, int seconds = 20) {
    for (int i = 0; i < seconds * 50; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }
  static int64_t newest(const Registry& registry) {
    const auto found = registry.newest(kTarget);
    return found && found->has_value() ? (*found)->version : 0;
  }
  std::unique_ptr<DraftCourier> courier(const std::string& name, DraftCourierOptions::Role role,
                                        const std::string& more = "&stagger=0") const {
    auto started = start_draft_courier(
        url(more), registry(name),
        {.role = role, .target = kTarget, .name = name, .poll_ms = 50, .figures = {}});
    EXPECT_TRUE(started) << started.status().to_string();
    return std::move(*started);
  }

  NatsServer server_;
  TempDir dir_;
};

using Role = DraftCourierOptions::Role;

TEST_F(DraftExchangeTest, AFileComesOutAsItWentIn) {
  auto connection = connect();
  DraftExchange exchange(*connection, kTarget);
  ASSERT_TRUE(exchange.prepare());
  Registry trainer = registry("trainer"), server = registry("server");
  EXPECT_FALSE(exchange.newest()->has_value());
  EXPECT_EQ(exchange.receive(server).status().code(), StatusCode::kNotFound);
  const std::string content = random_bytes(9'000'001, 1);
  const DraftManifest sent = publish(trainer, content);
  ASSERT_TRUE(exchange.send(trainer, sent));
  const auto got = exchange.receive(server);
  ASSERT_TRUE(got) << got.status().to_string();
  EXPECT_EQ(encode_manifest(*got), encode_manifest(sent));
  EXPECT_EQ(*read_file(server.gguf_path(sent.version)), content);
  EXPECT_EQ(newest(server), sent.version);
  EXPECT_EQ(exchange.receive(server).status().code(), StatusCode::kExists);
  DraftExchange other(*connection, "fedcba9876543210");
  EXPECT_FALSE(other.newest()->has_value()) << "a draft of another target";
}

// A sender that died before the manifest, and one whose bytes changed on the way.
TEST_F(DraftExchangeTest, HalfSentAndBrokenDraftsAreNotTaken) {
  auto connection = connect();
  DraftExchange exchange(*connection, kTarget);
  ASSERT_TRUE(exchange.prepare());
  Registry trainer = registry("trainer"), server = registry("server");
  const DraftManifest manifest = publish(trainer, random_bytes(3'000'000, 2));
  const std::string other = random_bytes(3'000'000, 3);
  const auto piece =
      publish_confirmed(*connection, {.subject = "t.drafts.piece",
                                      .reply = {},
                                      .headers = {},
                                      .data = as_bytes(std::span(other).first(1'000'000))});
  ASSERT_TRUE(piece);
  EXPECT_FALSE(exchange.newest()->has_value());

  const auto announce = [&](const std::vector<uint64_t>& pieces) {
    const std::string text = encode_manifest(manifest);
    const auto data = with_preface({manifest.bytes, 0, pieces}, as_bytes(std::span(text)));
    ASSERT_TRUE(
        publish_confirmed(*connection, {.subject = std::string("t.drafts.manifest.") + kTarget,
                                        .reply = {},
                                        .headers = {},
                                        .data = data}));
  };
  announce({*piece, *piece, *piece});
  EXPECT_FALSE(exchange.receive(server));
  announce({*piece});
  EXPECT_EQ(exchange.receive(server).status().code(), StatusCode::kCorrupt);
  announce({*piece, 99});
  EXPECT_EQ(exchange.receive(server).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(newest(server), 0);
  EXPECT_FALSE(read_file(server.dir() + "/received.gguf.tmp"));

  ASSERT_TRUE(exchange.send(trainer, manifest));  // the same version, whole
  EXPECT_TRUE(exchange.receive(server));
}

TEST_F(DraftExchangeTest, EveryServerGetsTheNewestAndOneThatWasAwayOnlyThat) {
  Registry trainer = registry("trainer"), late = registry("late");
  auto sends = courier("trainer", Role::kTrainer);
  auto a = courier("a", Role::kServer), b = courier("b", Role::kServer);
  for (uint32_t version = 1; version <= 3; ++version) {
    publish(trainer, random_bytes(700'000, version));
    EXPECT_TRUE(comes_true([&] { return newest(registry("a")) == version; }));
    EXPECT_TRUE(comes_true([&] { return newest(registry("b")) == version; }));
  }
  auto c = courier("late", Role::kServer);
  EXPECT_TRUE(comes_true([&] { return newest(late) == 3; }));
  EXPECT_EQ(late.list()->size(), 1u);
}

TEST_F(DraftExchangeTest, BrokersThatAreAwayPutItOffAndNoMore) {
  Registry trainer = registry("trainer");
  server_.stop();
  auto sends = courier("trainer", Role::kTrainer);
  auto a = courier("a", Role::kServer);
  publish(trainer, random_bytes(700'000, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  server_.start();
  EXPECT_TRUE(comes_true([&] { return newest(registry("a")) == 1; }, 40));
}

TEST_F(DraftExchangeTest, AFleetDoesNotSwapAtOnce) {
  Registry trainer = registry("trainer");
  std::vector<std::unique_ptr<DraftCourier>> fleet;
  constexpr int kServers = 8;
  for (int i = 0; i < kServers; ++i) {
    fleet.push_back(courier("s" + std::to_string(i), Role::kServer, "&stagger=3s"));
  }
  publish(trainer, random_bytes(100'000, 1));
  auto sends = courier("trainer", Role::kTrainer);
  std::vector<int64_t> adopted_us(kServers, 0);
  const auto all_have_it = [&] {
    bool all = true;
    for (int i = 0; i < kServers; ++i) {
      if (adopted_us[i] == 0 && newest(registry("s" + std::to_string(i))) == 1) {
        adopted_us[i] = steady_us();
      }
      all = all && adopted_us[i] != 0;
    }
    return all;
  };
  ASSERT_TRUE(comes_true(all_have_it));
  const auto [first, last] = std::minmax_element(adopted_us.begin(), adopted_us.end());
  EXPECT_GT(*last - *first, 1'000'000);
}

// A trainer with an empty folder must not begin again at version 1, which no server would take.
TEST_F(DraftExchangeTest, ANewTrainerGoesOnWithTheNumbers) {
  Registry first = registry("first"), second = registry("second");
  {
    auto sends = courier("first", Role::kTrainer);
    for (uint32_t i = 0; i < 3; ++i) publish(first, random_bytes(1000, i));
    auto connection = connect();
    DraftExchange exchange(*connection, kTarget);
    ASSERT_TRUE(comes_true([&] {
      const auto there = exchange.newest();
      return there && there->has_value() && (*there)->version == 3;
    }));
  }
  auto sends = courier("second", Role::kTrainer);
  ASSERT_TRUE(comes_true([&] { return newest(second) == 3; }));
  EXPECT_EQ(publish(second, random_bytes(1000, 9)).version, 4);
}

TEST_F(DraftExchangeTest, ReportsAreOneForEachServer) {
  auto connection = connect();
  DraftExchange exchange(*connection, kTarget);
  ASSERT_TRUE(exchange.prepare());
  EXPECT_TRUE(exchange.reports()->empty());
  DraftVerdict verdict;
  verdict.version = 4;
  verdict.live_accept_len = 1.5;
  ASSERT_TRUE(exchange.report({"a", verdict}));
  ASSERT_TRUE(exchange.report({"b", verdict}));
  verdict.live_accept_len = 1.75;
  ASSERT_TRUE(exchange.report({"a", verdict}));
  const auto reports = exchange.reports();
  ASSERT_TRUE(reports);
  ASSERT_EQ(reports->size(), 2u);
  EXPECT_EQ((*reports)[0].server, "b");
  EXPECT_EQ((*reports)[1].server, "a");
  EXPECT_DOUBLE_EQ((*reports)[1].verdict.live_accept_len, 1.75);
}

TEST_F(DraftExchangeTest, FiguresAreTheLastOfEachMember) {
  Registry server = registry("a");
  std::atomic<int> calls = 0;
  auto started = start_draft_courier(
      url("&stagger=0"), server,
      {.role = Role::kServer, .target = kTarget, .name = "a", .poll_ms = 50, .figures = [&] {
         ++calls;
         return std::string("aurora:draft_version 7\n");
       }});
  ASSERT_TRUE(started);
  auto connection = connect();
  DraftExchange exchange(*connection, kTarget);
  ASSERT_TRUE(exchange.prepare());
  ASSERT_TRUE(exchange.send_figures("b", "x 1\n"));
  ASSERT_TRUE(exchange.send_figures("b", "x 2\n"));
  std::vector<MemberFigures> found;
  ASSERT_TRUE(comes_true([&] {
    const auto figures = exchange.figures();
    if (figures) found = *figures;
    return found.size() == 2;
  }));
  std::sort(found.begin(), found.end(),
            [](const auto& x, const auto& y) { return x.name < y.name; });
  EXPECT_EQ(found[0].name, "a");
  EXPECT_EQ(parse_metrics(found[0].text).at("aurora:draft_version"), 7);
  EXPECT_EQ(parse_metrics(found[1].text).at("x"), 2);
  EXPECT_LT(found[1].age_ms, 60'000);
  EXPECT_EQ(calls.load(), 1) << "not at every look";
}

TEST_F(DraftExchangeTest, AVersionThatServersSentBackIsKnownToTheTrainer) {
  Registry trainer = registry("trainer");
  publish(trainer, random_bytes(1000, 1));
  publish(trainer, random_bytes(1000, 2));
  DraftVerdict verdict;
  verdict.version = 2;
  verdict.kind = DraftVerdict::Kind::kRolledBack;
  verdict.reason = "worse";
  for (const char* name : {"a", "b"}) {
    Registry server = registry(name);
    ASSERT_TRUE(server.write_verdict({.version = 1, .reason = "good"}));
    auto serves = courier(name, Role::kServer);
    auto sends = courier("trainer", Role::kTrainer);
    ASSERT_TRUE(comes_true([&] { return newest(server) == 2; }));
    ASSERT_TRUE(server.write_verdict(verdict));
    auto connection = connect();
    DraftExchange exchange(*connection, kTarget);
    ASSERT_TRUE(comes_true([&] {
      const auto reports = exchange.reports();
      return reports && !reports->empty() && reports->back().server == name;
    }));
  }
  auto sends = courier("trainer", Role::kTrainer);
  EXPECT_TRUE(comes_true([&] { return newest(trainer) == 1; }));
}

}  // namespace
}  // namespace aurora
