// The contract on a real nats-server, and what is JetStream's own: brokers that die or stop, many
// writers, records in pieces, broken messages.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "nats/jetstream.h"
#include "nats/nats_server.h"
#include "nats/preface.h"
#include "trace/jetstream_names.h"
#include "trace/trace_buffer_contract.h"

namespace aurora {
namespace {

using Role = TraceBufferOptions::Role;
using std::chrono::milliseconds;

NatsServer& shared_server() {
  static NatsServer server;
  return server;
}

// Streams of one test are its directory's: "/tmp/aurora-x7/buffer" -> "_tmp_aurora-x7_buffer".
std::string prefix_of(const std::string& dir) {
  std::string prefix = dir;
  for (char& c : prefix) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return prefix;
}

NatsUrl url_of(const NatsServer& server, const std::string& prefix, const std::string& more = "") {
  auto url = parse_nats_url("nats://" + server.address() + "/?prefix=" + prefix + more);
  EXPECT_TRUE(url) << url.status().to_string();
  return *url;
}

std::unique_ptr<NatsConnection> connect(const NatsUrl& url) {
  auto connection = NatsConnection::open(url, "test");
  EXPECT_TRUE(connection && (*connection)->wait_connected(20000));
  return std::move(*connection);
}

Result<std::unique_ptr<TraceBuffer>> open_shared(const TraceBufferOptions& options) {
  return open_jetstream_buffer(url_of(shared_server(), prefix_of(options.dir)), options);
}

void append_broken(const TraceBufferOptions& options, const std::string& tenant) {
  const std::string prefix = prefix_of(options.dir);
  auto connection = connect(url_of(shared_server(), prefix));
  std::vector<std::byte> bytes = *encode(sample_record(2, {.tenant = tenant}));
  bytes[100] ^= std::byte{1};
  const auto message = with_preface({bytes.size(), 0, {}}, bytes);
  const auto stored = publish_confirmed(
      *connection,
      {.subject = record_subject(prefix), .reply = {}, .headers = {}, .data = message});
  ASSERT_TRUE(stored) << stored.status().to_string();
}

INSTANTIATE_TEST_SUITE_P(
    JetStream, TraceBufferContract,
    testing::Values(BufferEngine{
        .name = "jetstream", .open = open_shared, .append_broken = append_broken, .broker = true}),
    [](const auto& engine) { return engine.param.name; });

class JetStreamBuffer : public testing::Test {
 protected:
  std::unique_ptr<TraceBuffer> open(Role role, const std::string& more = "",
                                    uint64_t bytes_max = 64u << 20) {
    auto buffer = open_jetstream_buffer(url_of(server_, "t", more),
                                        {.dir = {}, .bytes_max = bytes_max, .role = role});
    EXPECT_TRUE(buffer) << buffer.status().to_string();
    return std::move(*buffer);
  }
  static std::vector<uint64_t> ids(TraceBuffer& buffer) {
    std::vector<uint64_t> found;
    for (uint64_t after = 0;;) {
      auto records = buffer.read(after, 100, 1u << 30);
      EXPECT_TRUE(records) << records.status().to_string();
      if (!records || records->empty()) return found;
      for (const StoredRecord& stored : *records) found.push_back(stored.record.id);
      after = records->back().sequence;
    }
  }
  NatsServer server_;
};

const SampleOptions kMedium{.served_tokens = 60, .hidden = 64};    // about 50 KB
const SampleOptions kLarge{.served_tokens = 300, .hidden = 1024};  // about 2 MB, in pieces

TEST_F(JetStreamBuffer, AppendNeverWaitsForABrokerThatIsAway) {
  server_.stop();
  const size_t one = encode(sample_record(0, kMedium))->size();
  auto writer = open(Role::kWriter, "&in_flight=" + std::to_string(10 * one));
  int taken = 0, refused = 0;
  int64_t longest_us = 0;
  for (uint32_t i = 0; i < 30; ++i) {
    const int64_t begin_us = steady_us();
    const auto sequence = writer->append(sample_record(i, kMedium));
    longest_us = std::max(longest_us, steady_us() - begin_us);
    if (sequence) ++taken;
    if (!sequence) {
      ASSERT_EQ(sequence.status().code(), StatusCode::kUnavailable);
      ++refused;
    }
  }
  EXPECT_LT(longest_us, 1000000);
  EXPECT_EQ(taken, 10);
  EXPECT_EQ(refused, 20);
  EXPECT_EQ(writer->read(0, 1, 1).status().code(), StatusCode::kUnavailable);

  server_.start();  // what waited goes out, once
  ASSERT_TRUE(writer->flush(20000));
  EXPECT_EQ(ids(*writer).size(), 10u);
  EXPECT_EQ(writer->dropped_later(), 0u);
}

// A broker that takes connections and answers nothing: the bound holds and append() still returns.
TEST_F(JetStreamBuffer, AppendNeverWaitsForABrokerThatIsStopped) {
  const size_t one = encode(sample_record(0, kLarge))->size();
  auto writer = open(Role::kWriter, "&in_flight=" + std::to_string(12 * one));
  ASSERT_TRUE(writer->append(sample_record(0)));
  ASSERT_TRUE(writer->flush(20000));
  server_.signal(SIGSTOP);
  int refused = 0;
  int64_t longest_us = 0;
  for (uint32_t i = 1; i < 20; ++i) {
    const TraceRecord record = sample_record(i, kLarge);
    const int64_t begin_us = steady_us();
    if (writer->append(record).status().code() == StatusCode::kUnavailable) ++refused;
    longest_us = std::max(longest_us, steady_us() - begin_us);
  }
  EXPECT_EQ(refused, 7);
  EXPECT_LT(longest_us, 1000000);
  server_.signal(SIGCONT);
  ASSERT_TRUE(writer->flush(30000));
  EXPECT_EQ(ids(*writer).size(), 13u);
}

// kill -9 again and again while records of all sizes go in: each that flush() confirmed is there
// once, whatever was sent twice.
TEST_F(JetStreamBuffer, ABrokerKilledLosesNothingAndStoresNothingTwice) {
  auto writer = open(Role::kWriter);
  std::set<uint64_t> sent;
  uint32_t seed = 0;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 6; ++i, ++seed) {
      const auto record = sample_record(seed, i % 3 == 2 ? kLarge : kMedium);
      ASSERT_TRUE(writer->append(record));
      sent.insert(record.id);
    }
    std::this_thread::sleep_for(milliseconds(3 * round));
    server_.stop();
    server_.start();
  }
  ASSERT_TRUE(writer->flush(30000));
  const std::vector<uint64_t> found = ids(*writer);
  EXPECT_EQ(std::set<uint64_t>(found.begin(), found.end()), sent);
  EXPECT_EQ(found.size(), sent.size()) << "a record is there twice";
  EXPECT_EQ(writer->dropped_later(), 0u);
}

TEST_F(JetStreamBuffer, PiecesOfManyWritersMix) {
  constexpr int kWriters = 4;
  constexpr uint32_t kEach = 8;
  std::vector<std::unique_ptr<TraceBuffer>> writers;
  for (int i = 0; i < kWriters; ++i) writers.push_back(open(Role::kWriter));
  std::vector<std::thread> threads;
  for (uint32_t w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      for (uint32_t i = 0; i < kEach; ++i) {
        EXPECT_TRUE(writers[w]->append(sample_record(100 * w + i, i % 2 ? kMedium : kLarge)));
      }
      EXPECT_TRUE(writers[w]->flush(30000));
    });
  }
  for (std::thread& thread : threads) thread.join();
  auto reader = open(Role::kReader);
  std::map<uint32_t, uint32_t> next;  // each writer's own order is kept
  int total = 0;
  for (uint64_t after = 0;;) {
    auto records = reader->read(after, 5, 1u << 30);
    ASSERT_TRUE(records) << records.status().to_string();
    if (records->empty()) break;
    for (const StoredRecord& stored : *records) {
      const uint32_t seed = static_cast<uint32_t>(stored.record.id >> 32);
      EXPECT_EQ(stored.record.taps, sample_record(seed, seed % 2 ? kMedium : kLarge).taps);
      ++next[seed / 100];
      ++total;
    }
    after = records->back().sequence;
  }
  EXPECT_EQ(total, kWriters * static_cast<int>(kEach));
  EXPECT_EQ(reader->stats()->records, kWriters * kEach);
}

// The bound drops single messages: a record that lost a piece is not there, and nothing complains.
TEST_F(JetStreamBuffer, ARecordWithoutItsOldestPieceIsGone) {
  const size_t one = encode(sample_record(0, kLarge))->size();
  auto writer = open(Role::kWriter, "", 2 * one + one / 2);
  for (uint32_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(writer->append(sample_record(i, kLarge)));
    ASSERT_TRUE(writer->flush(20000));
  }
  EXPECT_EQ(ids(*writer), (std::vector<uint64_t>{sample_record(3).id, sample_record(4).id}));
  EXPECT_EQ(writer->stats()->corrupt, 0u);
}

TEST_F(JetStreamBuffer, NonsenseInTheStreamIsSkipped) {
  auto writer = open(Role::kWriter);
  ASSERT_TRUE(writer->append(sample_record(1)));
  ASSERT_TRUE(writer->flush(20000));
  auto connection = connect(url_of(server_, "t"));
  const std::vector<std::byte> many_pieces = with_preface({100, 0, {1, 1, 99, UINT64_MAX}}, {});
  const std::vector<std::vector<std::byte>> nonsense = {
      {}, std::vector<std::byte>(7), std::vector<std::byte>(40, std::byte{0xff}), many_pieces};
  for (const auto& data : nonsense) {
    ASSERT_TRUE(publish_confirmed(
        *connection, {.subject = record_subject("t"), .reply = {}, .headers = {}, .data = data}));
  }
  ASSERT_TRUE(writer->append(sample_record(2)));
  ASSERT_TRUE(writer->flush(20000));
  EXPECT_EQ(ids(*writer), (std::vector<uint64_t>{sample_record(1).id, sample_record(2).id}));
}

TEST_F(JetStreamBuffer, ADeletedStreamIsMadeAgain) {
  auto writer = open(Role::kWriter);
  ASSERT_TRUE(writer->append(sample_record(1)));
  ASSERT_TRUE(writer->flush(20000));
  auto connection = connect(url_of(server_, "t"));
  ASSERT_TRUE(connection->request("$JS.API.STREAM.DELETE.t_traces", "", 5000));
  ASSERT_TRUE(writer->append(sample_record(2)));
  ASSERT_TRUE(writer->flush(20000));
  EXPECT_EQ(ids(*writer), std::vector<uint64_t>{sample_record(2).id});
}

// The shortest age that a URL may name still leaves the whole window in which a repetition is
// known.
TEST_F(JetStreamBuffer, AShortAgeKeepsTheWindowForDuplicates) {
  auto writer = open(Role::kWriter, "&age=2m");
  ASSERT_TRUE(writer->append(sample_record(1)));
  ASSERT_TRUE(writer->flush(20000));
  auto connection = connect(url_of(server_, "t"));
  const auto info = connection->request("$JS.API.STREAM.INFO.t_traces", "", 5000);
  ASSERT_TRUE(info) << info.status().to_string();
  EXPECT_NE(info->text().find("\"max_age\":120000000000"), std::string_view::npos) << info->text();
  EXPECT_NE(info->text().find("\"duplicate_window\":120000000000"), std::string_view::npos)
      << info->text();
}

TEST_F(JetStreamBuffer, ReplicasThatTheBrokerCannotKeepAreSaid) {
  auto reader = open(Role::kReader, "&replicas=3");
  const Status status = reader->stats().status();
  EXPECT_NE(status.message().find("replicas"), std::string::npos) << status.to_string();
}

TEST_F(JetStreamBuffer, AMissingFileIsNamed) {
  for (const std::string name : {"creds", "tls_ca"}) {
    const Status status =
        open_jetstream_buffer(url_of(server_, "t", "&" + name + "=/nonexistent"), {}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalid);
    EXPECT_NE(status.message().find("/nonexistent"), std::string::npos) << status.to_string();
  }
}

}  // namespace
}  // namespace aurora
