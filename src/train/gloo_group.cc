// RankGroup over c10d's ProcessGroupGloo and TCPStore. The weights lie in main memory, so Gloo it
// is, whatever the LibTorch could do on a GPU.
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO  // not every LibTorch exports it; the header below is empty without
#endif
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "train/rank_group.h"

namespace aurora {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor bytes_tensor(void* data, size_t count) {
  return at::from_blob(data, {static_cast<int64_t>(count)}, at::kByte);
}

class GlooGroup final : public RankGroup {
 public:
  GlooGroup(const RankPlace& place, c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : RankGroup(place.rank, place.size), group_(std::move(group)) {}

  Status sum(std::span<float> values) override {
    return collective([&] {
      Tensors tensors = {
          at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat)};
      group_->allreduce(tensors)->wait();
    });
  }

  Status broadcast(std::vector<std::byte>& bytes) override {
    return collective([&] {
      auto count = static_cast<int64_t>(bytes.size());
      Tensors size = {bytes_tensor(&count, sizeof count)};
      group_->broadcast(size)->wait();
      bytes.resize(static_cast<size_t>(count));
      if (count == 0) return;
      Tensors content = {bytes_tensor(bytes.data(), bytes.size())};
      group_->broadcast(content)->wait();
    });
  }

  Result<std::vector<std::vector<std::byte>>> gather(std::span<const std::byte> mine) override {
    std::vector<std::vector<std::byte>> all;
    Status status = collective([&] {
      // Sizes first: all send as much as the longest.
      auto count = static_cast<int64_t>(mine.size());
      int64_t longest = 0;
      const Tensors counts = all_of(bytes_tensor(&count, sizeof count));
      for (const at::Tensor& t : counts) longest = std::max(longest, count_in(t));
      std::vector<std::byte> padded(mine.begin(), mine.end());
      padded.resize(static_cast<size_t>(std::max<int64_t>(longest, 1)));
      const Tensors contents = all_of(bytes_tensor(padded.data(), padded.size()));
      for (size_t i = 0; i < contents.size(); ++i) {
        const auto* data = static_cast<const std::byte*>(contents[i].data_ptr());
        all.emplace_back(data, data + count_in(counts[i]));
      }
    });
    if (!status) return status;
    return all;
  }

 private:
  static int64_t count_in(const at::Tensor& t) {
    int64_t count = 0;
    std::memcpy(&count, t.data_ptr(), sizeof count);
    return count;
  }

  Tensors all_of(at::Tensor mine) {
    std::vector<Tensors> outputs(1);
    for (int i = 0; i < size(); ++i) outputs[0].push_back(at::empty_like(mine));
    Tensors inputs = {std::move(mine)};
    group_->allgather(outputs, inputs)->wait();
    return outputs[0];
  }

  template <typename F>
  Status collective(F&& f) {
    std::string why = "it was lost before";
    if (!lost_) {
      try {
        f();
        return Status::ok();
      } catch (const std::exception& e) {
        why = e.what();
        why.resize(std::min(why.find('\n'), why.size()));
      }
      lost_ = true;
    }
    return Status::unavailable("another trainer rank is gone or hangs (" + why +
                               "): start all ranks again, they go on from the checkpoint");
  }

  const c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

// The address of this machine on the way to the master: what a host's own name resolves to is
// often its loopback address, which other machines cannot reach. Empty: no way is known.
std::string own_address(const RankPlace& place) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(place.master.c_str(), std::to_string(place.port).c_str(), &hints, &found) != 0)
    return "";
  std::string own;
  for (const addrinfo* a = found; a && own.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd < 0) continue;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    char text[NI_MAXHOST];
    // Connecting a datagram socket sends nothing, it only looks up the route.
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&address), length, text, sizeof text, nullptr, 0,
                    NI_NUMERICHOST) == 0)
      own = text;
    close(fd);
  }
  freeaddrinfo(found);
  return own;
}

auto network_device(const RankPlace& place) {
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME"); interface && *interface)
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  const std::string own = own_address(place);
  return own.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                     : c10d::ProcessGroupGloo::createDeviceForHostname(own);
}

c10::intrusive_ptr<c10d::ProcessGroupGloo> connect_ranks(const RankPlace& place,
                                                         std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = place.port;
  options.isServer = place.rank == 0 && !place.agent_store;
  if (!place.agent_store) options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = !place.agent_store;
  options.timeout = timeout;
  c10::intrusive_ptr<c10d::Store> store =
      c10::make_intrusive<c10d::TCPStore>(place.master, options);
  if (!place.prefix.empty())
    store = c10::make_intrusive<c10d::PrefixStore>(place.prefix, std::move(store));
  auto gloo = c10d::ProcessGroupGloo::Options::create(timeout);
  gloo->devices.push_back(network_device(place));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.size, gloo);
}

}  // namespace

Result<std::unique_ptr<RankGroup>> join_ranks(const RankPlace& place, double timeout_s) {
  if (place.size == 1) return std::unique_ptr<RankGroup>();
  try {
    auto group =
        connect_ranks(place, std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1000.0)));
    return std::unique_ptr<RankGroup>(std::make_unique<GlooGroup>(place, std::move(group)));
  } catch (const std::exception& e) {
    const std::string why = e.what();
    return Status::unavailable(
        "rank " + std::to_string(place.rank) + " of " + std::to_string(place.size) +
        " cannot join the others at " + place.master + ":" + std::to_string(place.port) + " (" +
        why.substr(0, why.find('\n')) + "): start all ranks within --rank-timeout of each other");
  }
}

}  // namespace aurora
