// Trainer ranks that train one draft together, each on its share of the traces and all with the
// same weights: LibTorch's c10d behind a header without LibTorch. Why the shares are as they are:
// docs/decisions.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

// Collectives: every rank calls the same ones in the same order, and none returns before all have
// called. kUnavailable: a rank is gone, or did not come within the time bound; every later call
// fails at once. One thread.
class RankGroup {
 public:
  virtual ~RankGroup() = default;
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool lost() const { return lost_; }  // the group cannot go on: end the process

  // Adds up in place, in fp32. The same bits on every rank.
  virtual Status sum(std::span<float> values) = 0;
  // Rank 0's bytes on every rank.
  virtual Status broadcast(std::vector<std::byte>& bytes) = 0;
  // Every rank's bytes, by rank.
  virtual Result<std::vector<std::vector<std::byte>>> gather(std::span<const std::byte> mine) = 0;

  // internal, and the group is lost, where `value` is not the same on all ranks.
  Status require_same(uint64_t value, const std::string& what);

 protected:
  RankGroup(int rank, int size) : rank_(rank), size_(size) {}
  bool lost_ = false;

 private:
  const int rank_, size_;
};

// Every rank's numbers, by rank.
Result<std::vector<std::vector<double>>> gather_numbers(RankGroup& ranks,
                                                        std::span<const double> mine);

// Whether any rank says so. Without a group: `mine`.
Result<bool> any_rank(RankGroup* ranks, bool mine);

// Which of `size` ranks trains this record: by its id, so that a record sent twice comes to the
// same one.
int owner_rank(uint64_t record_id, int size);

// Where this process stands, from the environment that torchrun sets: RANK, WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT. size 1: alone, WORLD_SIZE is not set or is 1.
struct RankPlace {
  int rank = 0, size = 1;
  std::string master;  // host of rank 0
  uint16_t port = 0;
  // torchrun's agent keeps the store on that port, over all restarts: a prefix for each of them.
  bool agent_store = false;
  std::string prefix;
};
// invalid: an impossible value, or one that is missing.
Result<RankPlace> rank_from_environment();

// Waits until all are there; no wait of a collective is longer than `timeout_s` either. nullptr:
// alone, and nothing was started. Traffic leaves by the network that reaches the master, or by
// GLOO_SOCKET_IFNAME. invalid: this build has no Gloo. kUnavailable: not all came.
Result<std::unique_ptr<RankGroup>> join_ranks(const RankPlace& place, double timeout_s);

}  // namespace aurora
