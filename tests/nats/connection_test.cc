// Credentials and TLS on a real nats-server, and what happens while it refuses them.
#include "nats/connection.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "nats/nats_server.h"
#include "trace/sample_record.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

constexpr int64_t kWaitMs = 30000;

bool run(const std::string& command) { return std::system(command.c_str()) == 0; }
bool has_openssl() { return run("openssl version >/dev/null 2>&1"); }

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::unique_ptr<NatsConnection> open(const std::string& url) {
  const auto parsed = parse_nats_url(url);
  EXPECT_TRUE(parsed) << parsed.status().to_string();
  auto connection = NatsConnection::open(*parsed, "test");
  EXPECT_TRUE(connection) << connection.status().to_string();
  return std::move(*connection);
}

// What is published comes back.
void expect_carries(NatsConnection& connection) {
  ASSERT_TRUE(connection.wait_connected(kWaitMs)) << connection.wait_connected(1).to_string();
  auto inbox = connection.inbox();
  ASSERT_TRUE(inbox) << inbox.status().to_string();
  const std::string text = "something";
  ASSERT_TRUE(connection.publish({.subject = inbox->subject(),
                                  .reply = {},
                                  .headers = {},
                                  .data = as_bytes(std::span(text))}));
  const auto message = inbox->next(kWaitMs);
  ASSERT_TRUE(message && message->has_value());
  EXPECT_EQ((*message)->text(), text);
}

// Until the library has given up and the connection was opened anew, in vain.
void expect_refused(NatsConnection& connection) {
  const int64_t give_up_us = steady_us() + kWaitMs * 1000;
  std::string said;
  while (said.find("credentials") == said.npos && steady_us() < give_up_us) {
    const Status status = connection.wait_connected(10);
    ASSERT_EQ(status.code(), StatusCode::kUnavailable);
    said = status.message();
  }
  EXPECT_NE(said.find("credentials"), said.npos) << said;
}

const std::string kClosed = "authorization { user: somebody, password: secret }\n";

TEST(NatsConnection, ComesBackWhenTheBrokerNoLongerRefusesIt) {
  NatsServer server(kClosed);
  const auto connection = open("nats://" + server.address());
  expect_refused(*connection);
  server.configure("");
  server.signal(SIGHUP);
  expect_carries(*connection);

  server.configure(kClosed);  // refused in the middle of a run
  server.signal(SIGHUP);
  const int64_t give_up_us = steady_us() + kWaitMs * 1000;
  while (connection->connected() && steady_us() < give_up_us) ::usleep(10'000);
  expect_refused(*connection);
  server.stop();
  server.configure("");
  server.start();
  expect_carries(*connection);
}

void publish(NatsConnection& connection, const std::string& subject) {
  ASSERT_TRUE(connection.publish({.subject = subject, .reply = {}, .headers = {}, .data = {}}));
}

TEST(NatsConnection, AnInboxIsGivenOutAgainWithoutWhatCameLate) {
  NatsServer server("");
  const auto connection = open("nats://" + server.address());
  ASSERT_TRUE(connection->wait_connected(kWaitMs));
  std::string earlier;
  {
    auto inbox = connection->inbox();
    ASSERT_TRUE(inbox);
    earlier = inbox->subject();
    publish(*connection, earlier);  // nobody takes it
  }
  auto inbox = connection->inbox();
  ASSERT_TRUE(inbox);
  EXPECT_NE(inbox->subject(), earlier);
  EXPECT_EQ(inbox->subject().substr(0, inbox->subject().rfind('.')),
            earlier.substr(0, earlier.rfind('.')))
      << "the same subscription";
  publish(*connection, earlier);
  publish(*connection, inbox->subject() + "1");  // of a use to come
  publish(*connection, inbox->subject() + ".7.0");
  const auto message = inbox->next(kWaitMs);
  ASSERT_TRUE(message && message->has_value());
  EXPECT_EQ((*message)->subject(), inbox->subject() + ".7.0");
  const auto nothing = inbox->next(100);
  EXPECT_TRUE(nothing && !nothing->has_value());
}

// Requests of several threads while the connection is closed, opened and closed.
TEST(NatsConnection, ThreadsShareAConnectionThatIsOpenedAgain) {
  NatsServer server(kClosed);
  const auto connection = open("nats://" + server.address());
  std::atomic<int> answered{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (; !stop; ::usleep(1000)) {
        if (connection->request("$JS.API.INFO", "", 1000)) ++answered;
      }
    });
  }
  for (int round = 0; round < 2; ++round) {
    server.configure(round == 0 ? "" : kClosed);
    server.signal(SIGHUP);
    const int64_t give_up_us = steady_us() + kWaitMs * 1000;
    while (connection->connected() != (round == 0) && steady_us() < give_up_us) ::usleep(10'000);
    const int before = answered;
    ::usleep(2'000'000);
    if (round == 0) {
      EXPECT_GT(answered, before);
    }
  }
  server.configure("");
  server.signal(SIGHUP);
  EXPECT_TRUE(connection->wait_connected(kWaitMs));
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

// Traces wait while a server is refused, before it ever connected and later, and arrive once.
TEST(NatsConnection, TracesOfARefusedServerGoOutAfterwards) {
  NatsServer server(kClosed);
  auto buffer = open_trace_buffer("nats://" + server.address() + "/?prefix=t", {});
  ASSERT_TRUE(buffer) << buffer.status().to_string();
  for (uint32_t round = 0; round < 2; ++round) {
    server.configure(kClosed);
    server.signal(SIGHUP);
    ::usleep(1'500'000);  // no call says when the library has given up
    ASSERT_TRUE((*buffer)->append(sample_record(round)));
    EXPECT_FALSE((*buffer)->flush(1500));
    server.configure("");
    server.signal(SIGHUP);
    const Status flushed = (*buffer)->flush(kWaitMs);
    ASSERT_TRUE(flushed) << flushed.to_string();
    const auto records = (*buffer)->read(0, 100, 1u << 30);
    ASSERT_TRUE(records) << records.status().to_string();
    EXPECT_EQ(records->size(), round + 1);
  }
  EXPECT_EQ((*buffer)->dropped_later(), 0u);
}

class NatsCredentials : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_openssl()) GTEST_SKIP() << "the openssl program is not installed; install it";
    ASSERT_TRUE(run("python3 " AURORA_TESTS "/nats/make_credentials.py " + files_));
    server_ = std::make_unique<NatsServer>(content(files_ + "/operator.conf"));
  }
  TempDir dir_;
  const std::string files_ = dir_ / "files";
  std::unique_ptr<NatsServer> server_;
};

TEST_F(NatsCredentials, AFileOpensTheBrokerAndCarriesTraces) {
  const std::string url = "nats://" + server_->address() + "/?creds=" + files_ + "/user.creds";
  const auto connection = open(url);
  expect_carries(*connection);
  auto buffer = open_trace_buffer(url, {});
  ASSERT_TRUE(buffer) << buffer.status().to_string();
  ASSERT_TRUE((*buffer)->append(sample_record(1)));
  const Status flushed = (*buffer)->flush(kWaitMs);
  EXPECT_TRUE(flushed) << flushed.to_string();

  const auto without = open("nats://" + server_->address());
  expect_refused(*without);
}

TEST_F(NatsCredentials, AFileThatIsPutRightIsTaken) {
  const std::string file = files_ + "/mine.creds";
  std::filesystem::copy(files_ + "/other.creds", file);
  const auto connection = open("nats://" + server_->address() + "/?creds=" + file);
  expect_refused(*connection);
  std::filesystem::copy(files_ + "/user.creds", file,
                        std::filesystem::copy_options::overwrite_existing);
  expect_carries(*connection);
}

class NatsTls : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_openssl()) GTEST_SKIP() << "the openssl program is not installed; install it";
    make_authority("ca");
    make_authority("foreign");
    make_certificate("server", "ca");
    make_certificate("client", "ca");
  }
  static std::string fresh_key(const std::string& out) {
    return " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout " + out + ".key ";
  }
  void make_authority(const std::string& name) const {
    const std::string out = dir_ / name;
    ASSERT_TRUE(run("openssl req -x509 -days 2 -subj /CN=" + name + fresh_key(out) + "-out " + out +
                    ".pem 2>/dev/null"));
  }
  void make_certificate(const std::string& name, const std::string& authority) const {
    const std::string out = dir_ / name, by = dir_ / authority;
    std::ofstream(out + ".ext") << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    ASSERT_TRUE(run("openssl req -subj /CN=" + name + fresh_key(out) + "-out " + out +
                    ".csr 2>/dev/null && openssl x509 -req -days 2 -in " + out + ".csr -CA " + by +
                    ".pem -CAkey " + by + ".key -CAcreateserial -extfile " + out + ".ext -out " +
                    out + ".pem 2>/dev/null"));
  }
  std::string config(bool verify) const {
    return "tls { cert_file: \"" + (dir_ / "server.pem") + "\", key_file: \"" +
           (dir_ / "server.key") + "\", ca_file: \"" + (dir_ / "ca.pem") +
           "\", verify: " + (verify ? "true" : "false") + " }\n";
  }
  std::string file(const std::string& name) const { return dir_ / name; }

 private:
  TempDir dir_;
};

TEST_F(NatsTls, ConnectsToABrokerOfItsAuthorityAlone) {
  NatsServer server(config(false));
  const auto right = open("tls://localhost:" + server.port() + "/?tls_ca=" + file("ca.pem"));
  expect_carries(*right);
  std::filesystem::copy(file("foreign.pem"), file("mine.pem"));
  const auto wrong = open("tls://localhost:" + server.port() + "/?tls_ca=" + file("mine.pem"));
  expect_refused(*wrong);
  std::filesystem::copy(file("ca.pem"), file("mine.pem"),
                        std::filesystem::copy_options::overwrite_existing);
  expect_carries(*wrong);
}

TEST_F(NatsTls, ShowsItsCertificate) {
  NatsServer server(config(true));
  const std::string url = "tls://localhost:" + server.port() + "/?tls_ca=" + file("ca.pem");
  const auto with =
      open(url + "&tls_cert=" + file("client.pem") + "&tls_key=" + file("client.key"));
  expect_carries(*with);
  const auto without = open(url);
  expect_refused(*without);
}

}  // namespace
}  // namespace aurora
