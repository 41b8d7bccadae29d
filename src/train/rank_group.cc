#include "train/rank_group.h"

#include <cstdlib>
#include <cstring>

#include "base/parse_number.h"
#include "train/window.h"

namespace aurora {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

template <typename T>
Status take_number(const char* name, T least, T most, T& out) {
  const std::string text = environment(name);
  if (parse_number(text, least, most, out)) return Status::ok();
  return Status::invalid("impossible value \"" + text + "\" of the environment's " + name +
                         ": RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set together");
}

}  // namespace

Status RankGroup::require_same(uint64_t value, const std::string& what) {
  const auto all = gather(std::as_bytes(std::span(&value, 1)));
  if (!all) return all.status();
  for (const std::vector<std::byte>& other : *all) {
    if (std::memcmp(other.data(), &value, sizeof value) == 0) continue;
    lost_ = true;
    return Status::internal("the trainer ranks disagree on " + what);
  }
  return Status::ok();
}

Result<std::vector<std::vector<double>>> gather_numbers(RankGroup& ranks,
                                                        std::span<const double> mine) {
  const auto all = ranks.gather(std::as_bytes(mine));
  if (!all) return all.status();
  std::vector<std::vector<double>> numbers;
  for (const std::vector<std::byte>& bytes : *all) {
    numbers.emplace_back(bytes.size() / sizeof(double));
    std::memcpy(numbers.back().data(), bytes.data(), bytes.size());
  }
  return numbers;
}

Result<bool> any_rank(RankGroup* ranks, bool mine) {
  if (!ranks) return mine;
  const double vote = mine ? 1 : 0;
  const auto votes = gather_numbers(*ranks, {&vote, 1});
  if (!votes) return votes.status();
  for (const std::vector<double>& of_rank : *votes)
    if (of_rank[0] != 0) return true;
  return false;
}

int owner_rank(uint64_t record_id, int size) {
  return static_cast<int>(SmallRng(record_id).below(static_cast<size_t>(size)));
}

Result<RankPlace> rank_from_environment() {
  RankPlace place;
  if (environment("WORLD_SIZE").empty()) return place;
  if (Status s = take_number("WORLD_SIZE", 1, 1024, place.size); !s) return s;
  if (place.size == 1) return place;
  if (Status s = take_number("RANK", 0, place.size - 1, place.rank); !s) return s;
  if (Status s = take_number("MASTER_PORT", uint16_t{1}, uint16_t{65535}, place.port); !s) return s;
  place.master = environment("MASTER_ADDR");
  if (place.master.empty())
    return Status::invalid("MASTER_ADDR is missing from the environment: the host of rank 0");
  place.agent_store = environment("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (place.agent_store) place.prefix = "attempt_" + environment("TORCHELASTIC_RESTART_COUNT");
  return place;
}

#if !AURORA_GLOO
Result<std::unique_ptr<RankGroup>> join_ranks(const RankPlace& place, double) {
  if (place.size == 1) return std::unique_ptr<RankGroup>();
  return Status::invalid(
      "this build trains on one rank only: install libgloo-dev and build again, or leave "
      "WORLD_SIZE out");
}
#endif

}  // namespace aurora
