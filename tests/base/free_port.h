// A port for a program that a test starts, stops and starts again.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "base/check.h"

namespace aurora {

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// Free now, and below the range from which the system takes ports of outgoing connections: while
// the program is down, no client that tries to reach it can be given its port.
inline uint16_t free_port() {
  static std::mt19937 rng(std::random_device{}());
  std::uniform_int_distribution<int> any(12'000, 32'000);
  for (int tries = 0; tries < 100; ++tries) {
    const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = loopback(static_cast<uint16_t>(any(rng)));
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    const bool free = ::bind(probe, to, sizeof address) == 0;
    ::close(probe);
    if (free) return ntohs(address.sin_port);
  }
  CHECK(!"a port of the loopback device is free");
  return 0;
}

}  // namespace aurora
