// deploy/nats/: three brokers from the files there, with our own client. Slow: elections take
// seconds.
#include "nats/nats_cluster.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <thread>

#include "nats/jetstream.h"
#include "trace/sample_record.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

using Role = TraceBufferOptions::Role;

const std::string kConf = AURORA_DEPLOY "/nats/nats-server.conf";
const SampleOptions kMedium{.served_tokens = 60, .hidden = 64};    // about 50 KB
const SampleOptions kLarge{.served_tokens = 300, .hidden = 1024};  // about 2 MB, in pieces
constexpr int64_t kWaitMs = 60'000;  // an election takes seconds, a busy machine several times that

NatsUrl url_of(const NatsCluster& cluster, const std::string& more = "") {
  const auto url = parse_nats_url("nats://" + cluster.addresses() + "/?replicas=3" + more);
  EXPECT_TRUE(url) << url.status().to_string();
  return *url;
}

std::unique_ptr<TraceBuffer> open(const NatsUrl& url, Role role) {
  auto buffer = open_jetstream_buffer(url, {.dir = {}, .bytes_max = 256u << 20, .role = role});
  EXPECT_TRUE(buffer) << buffer.status().to_string();
  return std::move(*buffer);
}

// Text behind "name":" in JSON that a broker wrote.
std::string field(const std::string& json, const std::string& name) {
  const std::string mark = "\"" + name + "\":\"";
  const size_t begin = json.find(mark);
  if (begin == json.npos) return "";
  return json.substr(begin + mark.size(),
                     json.find('"', begin + mark.size()) - begin - mark.size());
}

// Name of the broker that leads the stream of traces; waits for an election.
std::string leader(NatsConnection& connection) {
  for (const int64_t give_up_us = steady_us() + kWaitMs * 1000; steady_us() < give_up_us;) {
    auto info = connection.request("$JS.API.STREAM.INFO.aurora_traces", "", 2000);
    const std::string name = info ? field(std::string(info->text()), "leader") : "";
    if (!name.empty()) return name;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ADD_FAILURE() << "no broker leads the stream";
  return "";
}

// A leader, and two others that have what it has: then the next broker may die.
void wait_until_all_have_it(NatsConnection& connection) {
  std::string last;
  for (const int64_t give_up_us = steady_us() + kWaitMs * 1000; steady_us() < give_up_us;) {
    auto info = connection.request("$JS.API.STREAM.INFO.aurora_traces", "", 2000);
    last = info ? std::string(info->text()) : info.status().to_string();
    const size_t first = last.find("\"current\":true");
    if (!field(last, "leader").empty() && first != last.npos &&
        last.find("\"current\":true", first + 1) != last.npos)
      return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ADD_FAILURE() << "the brokers do not agree: " << last;
}

std::multiset<uint64_t> ids(TraceBuffer& buffer) {
  std::multiset<uint64_t> found;
  for (uint64_t after = 0;;) {
    const auto records = buffer.read(after, 100, 64u << 20);
    if (!records || records->empty()) return found;
    for (const StoredRecord& stored : *records) found.insert(stored.record.id);
    after = records->back().sequence;
  }
}

// A replica that lags shows less, so what is missing gets a moment.
std::multiset<uint64_t> ids_with(TraceBuffer& buffer, const std::set<uint64_t>& wanted) {
  std::multiset<uint64_t> found;
  for (const int64_t give_up_us = steady_us() + kWaitMs * 1000; steady_us() < give_up_us;) {
    found = ids(buffer);
    bool all = true;
    for (const uint64_t id : wanted) all = all && found.count(id) > 0;
    if (all) return found;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return found;
}

TEST(NatsClusterTest, ALeaderKilledLosesNoAcknowledgedRecord) {
  NatsCluster cluster(kConf);
  const NatsUrl url = url_of(cluster);
  auto writer = open(url, Role::kWriter);
  auto reader = open(url, Role::kReader);
  auto connection = NatsConnection::open(url, "test");
  ASSERT_TRUE(connection && (*connection)->wait_connected(kWaitMs));

  std::set<uint64_t> sent, acknowledged;
  uint32_t seed = 0;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i, ++seed) {
      const TraceRecord record = sample_record(seed, seed % 4 == 3 ? kLarge : kMedium);
      ASSERT_TRUE(writer->append(record));
      sent.insert(record.id);
    }
  };
  for (int round = 0; round < 3; ++round) {
    send(8);
    ASSERT_TRUE(writer->flush(kWaitMs));
    acknowledged = sent;
    const std::string killed = leader(**connection);
    ASSERT_FALSE(killed.empty());
    send(8);  // on their way when the leader dies
    cluster.node(killed).stop(SIGKILL);
    // The two that are left have every acknowledged record and take new ones.
    const auto left = ids_with(*reader, acknowledged);
    for (const uint64_t id : acknowledged)
      EXPECT_EQ(left.count(id), 1u) << "round " << round << ", record " << id << ", " << killed;
    ASSERT_TRUE(writer->flush(kWaitMs)) << "two of three brokers must do";
    EXPECT_NE(leader(**connection), killed);
    cluster.node(killed).start();
    cluster.node(killed).wait_until_it_listens();
    wait_until_all_have_it(**connection);
  }
  EXPECT_EQ(ids_with(*reader, sent), std::multiset<uint64_t>(sent.begin(), sent.end()));
  EXPECT_EQ(writer->dropped_later(), 0u);
  auto info = (*connection)->request("$JS.API.STREAM.INFO.aurora_traces", "", 5000);
  ASSERT_TRUE(info);
  EXPECT_NE(info->text().find("\"num_replicas\":3"), std::string_view::npos) << info->text();
}

TEST(NatsClusterTest, EveryBrokerSyncsBeforeItConfirms) {
  const NatsCluster cluster(kConf);
  for (int i = 0; i < NatsCluster::kNodes; ++i) {
    const std::string page = cluster.monitor(i, "/jsz");
    EXPECT_NE(page.find("\"sync_always\": true"), page.npos) << page;
  }
}

// The files in a folder of their own, with the lines in use that `wanted` names.
void copy_with(const std::string& folder, const std::vector<std::string>& wanted) {
  std::filesystem::copy(AURORA_DEPLOY "/nats", folder);
  std::string text = read_text(kConf);
  for (const std::string& line : wanted) {
    const size_t at = text.find("# " + line);
    ASSERT_NE(at, text.npos) << line;
    text.erase(at, 2);
  }
  std::ofstream(folder + "/nats-server.conf") << text;
}

// An authority, a certificate for the brokers and one for each of `clients`, by openssl's program.
void make_certificates(const TempDir& dir, const std::vector<std::string>& clients) {
  std::string script = "cd " + dir.path() +
                       " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                       "-days 2 -subj /CN=authority -keyout ca.key -out ca.pem";
  const auto add = [&](const std::string& name, const std::string& more) {
    script +=
        " && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "
        "/O=aurora/CN=" +
        name + " -keyout " + name + ".key -out " + name + ".csr && " + more +
        "openssl x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -in " + name +
        ".csr -out " + name + ".pem" + (more.empty() ? "" : " -extfile names.txt");
  };
  add("broker", "echo subjectAltName=IP:127.0.0.1 > names.txt && ");
  for (const std::string& client : clients) add(client, "");
  ASSERT_EQ(std::system(("(" + script + ") > " + (dir / "openssl.log") + " 2>&1").c_str()), 0)
      << read_text(dir / "openssl.log");
}

std::string client_files(const TempDir& dir, const std::string& name) {
  return "&tls_ca=" + (dir / "ca.pem") + "&tls_cert=" + (dir / (name + ".pem")) +
         "&tls_key=" + (dir / (name + ".key"));
}

TEST(NatsClusterTest, TheCommentedOptionsWork) {
  const TempDir dir;
  make_certificates(dir, {"aurora-server", "stranger"});
  const std::vector<std::string> environment = {"NATS_TLS_CERT=" + (dir / "broker.pem"),
                                                "NATS_TLS_KEY=" + (dir / "broker.key"),
                                                "NATS_TLS_CA=" + (dir / "ca.pem")};
  // The first line of this text is the one inside the block "cluster".
  for (const std::string clients : {"tls.conf", "certificates.conf"}) {
    const std::string folder = dir / ("with-" + clients);
    const std::string between_brokers = "include \"tls.conf\"\n}";
    copy_with(folder, {between_brokers, "include \"" + clients + "\""});
    const NatsCluster cluster(folder + "/nats-server.conf", environment);
    auto writer = open(url_of(cluster, client_files(dir, "aurora-server")), Role::kWriter);
    ASSERT_TRUE(writer->append(sample_record(1, kMedium)));
    EXPECT_TRUE(writer->flush(kWaitMs)) << clients;

    EXPECT_FALSE(open(url_of(cluster), Role::kReader)->stats()) << "without a certificate";
    auto stranger = open(url_of(cluster, client_files(dir, "stranger")), Role::kReader);
    const bool taken = static_cast<bool>(stranger->stats());
    EXPECT_EQ(taken, clients == "tls.conf") << "certificates.conf knows its users by name";
  }
}

}  // namespace
}  // namespace aurora
