// How likely the target takes a drafted token, from what it took lately: decayed counts by kind of
// request, position in the draft and bucket (what the arm itself says of the token), each shrunk to
// its parent where it has seen little. One thread; O(positions) each call, no allocation.
#pragma once

#include <array>
#include <cstdint>

namespace aurora {

inline constexpr int kDraftDepthMax = 16;
inline constexpr int kRequestKinds = 6;   // greedy, sampled, each free, with a grammar, with tools
inline constexpr int kAcceptBuckets = 8;  // by the draft's own probability, or the match's length

class AcceptStats {
 public:
  // Of the first position, with the weight of so many tries. Later positions expect what the one
  // before them has shown.
  explicit AcceptStats(double prior = 0.5, double prior_tries = 8);
  // What is expected of repeated text by the length of its match, and of a chain's token by the
  // probability that the draft gives it: worth a few tries, until there are real ones.
  static AcceptStats of_matches();
  static AcceptStats of_chain(double prior, double prior_tries);

  // The chance that position `position` is taken when all before it were. bucket < 0: not known
  // yet.
  double rate(int kind, int position, int bucket = -1) const;
  void observe(int kind, int position, int bucket, bool taken);
  // A step of the server passed, drafted for or not: what is old counts less.
  void tick() { ++now_; }
  // As a draft that continues `older` begins: its counts at `share` of their weight, a new prior.
  static AcceptStats continued(const AcceptStats& older, double share, double prior,
                               double prior_tries);

 private:
  struct Count {
    double taken = 0;
    double tries = 0;
    int64_t at = 0;  // step of the last observation
  };
  using Positions = std::array<Count, kDraftDepthMax>;
  using Buckets = std::array<Count, kAcceptBuckets>;
  static constexpr int kPositionClasses = 3;  // of buckets: first, second, later

  void expect(const std::array<double, kAcceptBuckets>& rates);
  double shrunk(const Count& count, double parent, double parent_tries) const;
  void add(Count& count, bool taken) const;

  double prior_;
  double prior_tries_;
  int64_t now_ = 0;
  Positions all_{};
  std::array<Positions, kRequestKinds> by_kind_{};
  std::array<Buckets, kPositionClasses> by_bucket_{};
  std::array<std::array<Buckets, kPositionClasses>, kRequestKinds> by_kind_bucket_{};
};

// Bucket of the draft's own probability of a token, and of the length of a repeated text's match.
int prob_bucket(float prob);
int match_bucket(int length);

}  // namespace aurora
