// A real nats-server on a free port of the loopback, its store in a temporary directory. Killed
// with this object.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/free_port.h"
#include "base/temp_dir.h"

namespace aurora {

inline std::string nats_server_program() {
  if (const char* given = std::getenv("AURORA_NATS_SERVER")) return given;
  std::FILE* fetch = ::popen("python3 " AURORA_SCRIPTS "/fetch_nats_server.py", "r");
  char line[4096] = "";
  CHECK(fetch != nullptr && std::fgets(line, sizeof line, fetch) != nullptr);
  ::pclose(fetch);
  const std::string path = line;
  return path.substr(0, path.find('\n'));
}

// A program that listens on `port`. Its environment is ours and `environment` ("NAME=value").
class NatsProcess {
 public:
  NatsProcess(std::vector<std::string> command, std::vector<std::string> environment, uint16_t port)
      : command_(std::move(command)), environment_(std::move(environment)), port_(port) {}
  ~NatsProcess() { stop(SIGKILL); }
  NatsProcess(const NatsProcess&) = delete;
  NatsProcess& operator=(const NatsProcess&) = delete;

  void start() {
    std::vector<char*> argv, environ_now;
    for (std::string& arg : command_) argv.push_back(arg.data());
    for (char** entry = ::environ; *entry != nullptr; ++entry) environ_now.push_back(*entry);
    for (std::string& entry : environment_) environ_now.push_back(entry.data());
    argv.push_back(nullptr);
    environ_now.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves no broker behind
      ::execve(argv[0], argv.data(), environ_now.data());
      ::_exit(127);
    }
  }
  // Throws when it ends instead, or takes more than a minute.
  void wait_until_it_listens() {
    const int64_t give_up_us = steady_us() + 60'000'000;
    const sockaddr_in place = loopback(port_);
    while (true) {
      const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
      const auto* to = reinterpret_cast<const sockaddr*>(&place);
      const bool up = ::connect(probe, to, sizeof place) == 0;
      ::close(probe);
      if (up) return;
      int state = 0;
      if (::waitpid(pid_, &state, WNOHANG) == pid_) {
        pid_ = -1;
        throw std::runtime_error(command_[0] + " ended, state " + std::to_string(state));
      }
      if (steady_us() > give_up_us) throw std::runtime_error("nothing listens on " + address());
      ::usleep(20000);
    }
  }
  void stop(int signal_number = SIGKILL) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal_number);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void signal(int number) const { ::kill(pid_, number); }
  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string port() const { return std::to_string(port_); }

 private:
  std::vector<std::string> command_;
  std::vector<std::string> environment_;
  const uint16_t port_;
  pid_t pid_ = -1;
};

class NatsServer {
 public:
  NatsServer() : NatsServer("") {}
  // `config`: text of a configuration file.
  explicit NatsServer(const std::string& config) : NatsServer(config, free_port()) {}

  // Seen at the next start(), or after signal(SIGHUP).
  void configure(const std::string& config) const {
    std::FILE* file = std::fopen((dir_ / "conf").c_str(), "w");
    CHECK(file != nullptr && std::fputs(("debug: false\n" + config).c_str(), file) >= 0);
    CHECK(std::fclose(file) == 0);
  }

  // On the same port and store as before.
  void start() {
    process_.start();
    process_.wait_until_it_listens();
  }
  void stop(int signal_number = SIGKILL) { process_.stop(signal_number); }
  void signal(int number) const { process_.signal(number); }
  pid_t pid() const { return process_.pid(); }
  std::string address() const { return process_.address(); }
  std::string port() const { return process_.port(); }

 private:
  NatsServer(const std::string& config, uint16_t port)
      : process_({nats_server_program(), "-a", "127.0.0.1", "-p", std::to_string(port), "-js",
                  "-sd", dir_ / "store", "-l", dir_ / "log", "-c", dir_ / "conf"},
                 {}, port) {
    configure(config);
    start();
  }

  TempDir dir_;
  NatsProcess process_;
};

}  // namespace aurora
