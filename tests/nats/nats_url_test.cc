#include "nats/nats_url.h"

#include <gtest/gtest.h>

#include "nats/preface.h"

namespace aurora {
namespace {

NatsUrl parsed(const std::string& text) {
  const Result<NatsUrl> url = parse_nats_url(text);
  EXPECT_TRUE(url) << url.status().to_string();
  return url ? *url : NatsUrl{};
}

TEST(NatsUrl, Defaults) {
  const NatsUrl url = parsed("nats://broker");
  EXPECT_EQ(url.servers, std::vector<std::string>{"nats://broker:4222"});
  EXPECT_EQ(url.prefix, "aurora");
  EXPECT_EQ(url.replicas, 1);
  EXPECT_EQ(url.bytes_max, 0u);
  EXPECT_EQ(url.age_s, 0);
  EXPECT_FALSE(url.tls);
}

TEST(NatsUrl, EverythingAtOnce) {
  const NatsUrl url = parsed(
      "tls://a:1,b,[::1]:3/?prefix=team-1&replicas=3&creds=/run/"
      "a.creds&tls_ca=ca.pem&tls_cert=c.pem"
      "&tls_key=k.pem&bytes_max=20GiB&age=24h&in_flight=64MiB&stagger=0");
  EXPECT_EQ(url.servers,
            (std::vector<std::string>{"nats://a:1", "nats://b:4222", "nats://[::1]:3"}));
  EXPECT_EQ(url.prefix, "team-1");
  EXPECT_EQ(url.replicas, 3);
  EXPECT_EQ(url.creds, "/run/a.creds");
  EXPECT_EQ(url.tls_ca, "ca.pem");
  EXPECT_EQ(url.bytes_max, 20ull << 30);
  EXPECT_EQ(url.age_s, 86400);
  EXPECT_EQ(url.in_flight_bytes_max, 64ull << 20);
  EXPECT_EQ(url.stagger_s, 0);
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(parsed("nats://a?age=2m").age_s, 120);
  EXPECT_TRUE(parsed("nats://a?tls_ca=ca.pem").tls);
  EXPECT_TRUE(parsed("tls://a").tls);
}

// What the sentence must hold, so that it says what to do.
TEST(NatsUrl, EachMistakeIsOneSentence) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"http://a", "give nats://host:port"},
      {"nats://", "names no host"},
      {"nats://a,,b", "names no host"},
      {"nats://a:port", "no usable port"},
      {"nats://a:70000", "no usable port"},
      {"nats://a/stream", "parameters follow a '?'"},
      {"nats://user:secret@a", "give ?creds=FILE"},
      {"nats://a?replica=3", "the known ones are prefix, replicas"},
      {"nats://a?replicas=2", "give 1, 3 or 5"},
      {"nats://a?prefix=a.b", "give letters, digits"},
      {"nats://a?prefix", "give letters, digits"},
      {"nats://a?bytes_max=many", "for example 20GiB"},
      {"nats://a?bytes_max=99999999999999TiB", "for example 20GiB"},
      {"nats://a?age=0", "for example 24h"},
      {"nats://a?age=5w", "for example 24h"},
      {"nats://a?age=119s", "a time of 2m or more"},
      {"nats://a?creds=", "the path of a file"},
      {"tls://a?tls_cert=x", "give both or neither"},
  };
  for (const auto& [text, says] : mistakes) {
    const Result<NatsUrl> url = parse_nats_url(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.status().code(), StatusCode::kInvalid);
    EXPECT_NE(url.status().message().find(says), std::string::npos) << url.status().message();
    EXPECT_EQ(url.status().message().find("secret"), std::string::npos);
  }
}

TEST(Preface, NamesEachPieceOnce) {
  const std::vector<std::byte> rest(3, std::byte{7});
  std::vector<std::byte> message = with_preface({100, 5, {9, 3, 7}}, rest);
  std::span<const std::byte> left = message;
  const auto preface = take_preface(left);
  ASSERT_TRUE(preface);
  EXPECT_EQ(preface->pieces, (std::vector<uint64_t>{9, 3, 7}));
  EXPECT_EQ(left.size(), 3u);
  message = with_preface({100, 5, {9, 3, 9}}, rest);
  left = message;
  EXPECT_EQ(take_preface(left).status().code(), StatusCode::kCorrupt);
}

}  // namespace
}  // namespace aurora
