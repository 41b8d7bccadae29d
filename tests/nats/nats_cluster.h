// Three brokers of deploy/nats/ on the loopback, from the files there.
#pragma once

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "nats/nats_server.h"

namespace aurora {

inline std::string read_text(const std::string& path) {
  std::ifstream in(path);
  CHECK(in.good());
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class NatsCluster {
 public:
  static constexpr int kNodes = 3;

  // `environment` beside what this class sets for each broker.
  explicit NatsCluster(const std::string& conf, const std::vector<std::string>& environment = {}) {
    std::vector<uint16_t> route_ports;
    std::string routes;
    for (int i = 0; i < kNodes; ++i) {
      route_ports.push_back(free_port());
      routes += (i > 0 ? "," : "") + ("nats-route://" + at(route_ports.back()));
    }
    for (int i = 0; i < kNodes; ++i) {
      const uint16_t port = free_port();
      const std::string name = "n" + std::to_string(i + 1);
      monitor_ports_.push_back(free_port());
      std::vector<std::string> all = {
          "NATS_NAME=" + name,
          "NATS_LISTEN=" + at(port),
          "NATS_ROUTE_LISTEN=" + at(route_ports[static_cast<size_t>(i)]),
          "NATS_ROUTES=[" + routes + "]",
          "NATS_MONITOR=" + at(monitor_ports_.back()),
          "NATS_STORE=" + (dir_ / name)};
      all.insert(all.end(), environment.begin(), environment.end());
      nodes_.push_back(std::make_unique<NatsProcess>(
          std::vector<std::string>{nats_server_program(), "-c", conf, "-l", dir_ / (name + ".log")},
          all, port));
      nodes_.back()->start();
    }
    for (const auto& node : nodes_) node->wait_until_it_listens();
  }

  NatsProcess& node(const std::string& name) {
    return *nodes_.at(static_cast<size_t>(std::stoi(name.substr(1)) - 1));
  }
  std::string addresses() const {
    std::string all;
    for (const auto& node : nodes_) all += (all.empty() ? "" : ",") + node->address();
    return all;
  }
  // Body of a page of a broker's monitor; empty: no answer.
  std::string monitor(int index, const std::string& page) const {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = loopback(monitor_ports_.at(static_cast<size_t>(index)));
    std::string answer;
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      const std::string ask = "GET " + page + " HTTP/1.0\r\n\r\n";
      if (::write(socket, ask.data(), ask.size()) == static_cast<ssize_t>(ask.size())) {
        char block[4096];
        for (ssize_t n; (n = ::read(socket, block, sizeof block)) > 0;)
          answer.append(block, static_cast<size_t>(n));
      }
    }
    ::close(socket);
    return answer;
  }

 private:
  static std::string at(uint16_t port) { return "127.0.0.1:" + std::to_string(port); }

  TempDir dir_;
  std::vector<uint16_t> monitor_ports_;
  std::vector<std::unique_ptr<NatsProcess>> nodes_;
};

}  // namespace aurora
