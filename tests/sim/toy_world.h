// A target, its traffic and its drafts without a model: streams of tokens, drafts that know the
// next one with a given chance, a clock that only work moves. Seeded; nothing sleeps.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "speculator/chain_drafter.h"

namespace aurora::sim {

struct Domain {
  double repeats = 0.0;  // share of the answer's tokens that begin a copy of earlier text
  int answer_tokens = 150;
  double ease = 0.2;  // how far the chance of a token lies above or below its version's mean
  bool grammar = false;
  double boast = 0;  // how far the draft's own probability lies above its chance
};

struct Machine {
  std::vector<double> step_ms;  // T(1), T(2), ...; the last goes on as a line
  double chain_first_ms = 1;
  double chain_next_ms = 0.6;
  double row_ms = 0.02;  // to build a missing row of the chain
  double noise = 0.05;

  double step(int rows) const {
    const size_t last = step_ms.size() - 1;
    if (static_cast<size_t>(rows) <= step_ms.size()) return step_ms[static_cast<size_t>(rows) - 1];
    return step_ms[last] + (step_ms[last] - step_ms[last - 1]) *
                               static_cast<double>(static_cast<size_t>(rows) - step_ms.size());
  }
};

// One answer, fixed before it is served: what the target would say.
struct Answer {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;
  std::vector<float> luck;  // a draft with chance p knows token i where luck[i] < p
  std::vector<bool> easy;
};

inline Answer make_answer(const Domain& domain, std::mt19937_64& random) {
  std::uniform_int_distribution<int32_t> token(10, 9999);
  std::uniform_real_distribution<float> share(0, 1);
  Answer answer;
  for (int i = 0; i < 80; ++i) answer.prompt.push_back(token(random));
  std::vector<int32_t> text = answer.prompt;
  size_t copy_from = 0, copy_left = 0;
  for (int i = 0; i < domain.answer_tokens; ++i) {
    if (copy_left == 0 && share(random) < domain.repeats) {
      copy_left = 12 + random() % 20;
      copy_from = random() % (text.size() - 12);
    }
    const bool copies = copy_left > 0 && copy_from < text.size();
    const int32_t next = copies ? text[copy_from++] : token(random);
    if (copy_left > 0) --copy_left;
    text.push_back(next);
    answer.tokens.push_back(next);
    answer.luck.push_back(share(random));
    answer.easy.push_back(share(random) < 0.5f);
  }
  return answer;
}

// A slot of the toy server: the answer it serves and how far it is.
struct Serving {
  Answer answer;
  size_t at = 0;  // tokens served
  int domain = 0;
  size_t rows = 0;  // prompt and answer tokens that the target holds
};

class ToyDrafter : public ChainDrafter {
 public:
  struct World {
    const Machine* machine;
    const std::vector<Domain>* domains;
    std::vector<Serving>* slots;
    double* now_ms;
    std::mt19937_64* random;
  };

  // chances: by domain. broken: says that it is sure and never is right.
  ToyDrafter(int64_t version, std::vector<double> chances, World world, bool broken = false)
      : version_(version),
        chances_(std::move(chances)),
        world_(world),
        broken_(broken),
        built_(world.slots->size(), 0) {}

  int64_t version() const override { return version_; }
  int32_t rows_missing(int32_t slot, const KeptRows&) const override {
    const size_t rows = serving(slot).rows, built = built_[static_cast<size_t>(slot)];
    return static_cast<int32_t>(rows > built ? rows - built : rows - std::min(rows, built) + 1);
  }
  Status begin(std::span<ChainWish* const> wishes) override {
    for (ChainWish* wish : wishes) {
      const int32_t missing = rows_missing(wish->slot, {});
      *world_.now_ms += std::max(0, missing - 4) * world_.machine->row_ms;
      built_[static_cast<size_t>(wish->slot)] = serving(wish->slot).rows;
      wish->tokens.clear();
      wish->probs.clear();
      add(*wish);
    }
    *world_.now_ms += world_.machine->chain_first_ms;
    return Status::ok();
  }
  Status next(std::span<ChainWish* const> wishes) override {
    for (ChainWish* wish : wishes) add(*wish);
    *world_.now_ms += world_.machine->chain_next_ms;
    return Status::ok();
  }
  void set_threads(int32_t) override {}

 private:
  const Serving& serving(int32_t slot) const { return (*world_.slots)[static_cast<size_t>(slot)]; }
  void add(ChainWish& wish) {
    const Serving& s = serving(wish.slot);
    const size_t at = s.at + wish.tokens.size();
    const auto domain = static_cast<size_t>(s.domain);
    double chance = broken_ ? 0 : chances_[domain];
    bool right = false;
    if (at < s.answer.tokens.size()) {
      const double ease = (*world_.domains)[domain].ease;
      chance = broken_ ? 0 : std::clamp(chance + (s.answer.easy[at] ? ease : -ease), 0.0, 1.0);
      right = s.answer.luck[at] < chance;
    }
    wish.tokens.push_back(right ? s.answer.tokens[at] : 1);
    const double prob = std::min(0.99, chance + (*world_.domains)[domain].boast);
    wish.probs.push_back(broken_ ? 0.99f : static_cast<float>(prob));
  }

  const int64_t version_;
  const std::vector<double> chances_;
  const World world_;
  const bool broken_;
  std::vector<size_t> built_;
};

}  // namespace aurora::sim
