// A real nats-server on a free port of the loopback, its store in a temporary directory. Killed
// with this object.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
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

inline uint16_t free_port() {
  const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  CHECK(::bind(probe, reinterpret_cast<sockaddr*>(&address), length) == 0);
  CHECK(::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  ::close(probe);
  return ntohs(address.sin_port);
}

class NatsServer {
 public:
  NatsServer() : program_(nats_server_program()), port_(free_port()) { start(); }
  ~NatsServer() { stop(SIGKILL); }

  // On the same port and store as before.
  void start() {
    std::vector<std::string> args = {program_, "-a",  "127.0.0.1",    "-p", std::to_string(port_),
                                     "-js",    "-sd", dir_ / "store", "-l", dir_ / "log"};
    pid_ = ::fork();
    if (pid_ == 0) {
      std::vector<char*> argv;
      for (std::string& arg : args) argv.push_back(arg.data());
      argv.push_back(nullptr);
      ::execv(program_.c_str(), argv.data());
      ::_exit(127);
    }
    wait_until_it_listens();
  }
  void stop(int signal_number = SIGKILL) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal_number);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void signal(int number) const { ::kill(pid_, number); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  void wait_until_it_listens() const {
    const int64_t give_up_us = steady_us() + 20'000'000;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    while (true) {
      const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
      const bool up = ::connect(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
      ::close(probe);
      if (up) return;
      CHECK(steady_us() < give_up_us && ::waitpid(pid_, nullptr, WNOHANG) == 0);
      ::usleep(20000);
    }
  }

  const std::string program_;
  const uint16_t port_;
  TempDir dir_;
  pid_t pid_ = -1;
};

}  // namespace aurora
