#include "speculator/accept_stats.h"

#include <algorithm>
#include <cmath>

namespace aurora {
namespace {

constexpr double kTriesMax = 64;  // a count remembers about so many: traffic turns within a request
constexpr double kHalfLife = 2000;  // steps after which an unused count is worth half
constexpr double kParentTries = 8;  // weight of the parent
constexpr std::array<float, kAcceptBuckets - 1> kProbEdges = {0.1f, 0.2f,  0.35f, 0.5f,
                                                              0.7f, 0.85f, 0.95f};
constexpr std::array<int, kAcceptBuckets - 1> kMatchEdges = {4, 5, 6, 8, 12, 20, 32};

constexpr double kExpectedTries = 6;
constexpr std::array<double, kAcceptBuckets> kMatchRates = {0.35, 0.5,  0.6, 0.7,
                                                            0.8,  0.85, 0.9, 0.95};
constexpr std::array<double, kAcceptBuckets> kProbRates = {0.05, 0.15, 0.25, 0.4,
                                                           0.55, 0.75, 0.88, 0.96};

}  // namespace

int prob_bucket(float prob) {
  return static_cast<int>(std::upper_bound(kProbEdges.begin(), kProbEdges.end(), prob) -
                          kProbEdges.begin());
}

int match_bucket(int length) {
  return static_cast<int>(std::upper_bound(kMatchEdges.begin(), kMatchEdges.end(), length) -
                          kMatchEdges.begin());
}

AcceptStats::AcceptStats(double prior, double prior_tries)
    : prior_(prior), prior_tries_(prior_tries) {}

AcceptStats AcceptStats::of_matches() {
  AcceptStats stats(0.4);
  stats.expect(kMatchRates);
  return stats;
}

AcceptStats AcceptStats::of_chain(double prior, double prior_tries) {
  AcceptStats stats(prior, prior_tries);
  stats.expect(kProbRates);
  return stats;
}

void AcceptStats::expect(const std::array<double, kAcceptBuckets>& rates) {
  for (Buckets& buckets : by_bucket_)
    for (size_t i = 0; i < rates.size(); ++i)
      buckets[i] = {rates[i] * kExpectedTries, kExpectedTries, now_};
}

AcceptStats AcceptStats::continued(const AcceptStats& older, double share, double prior,
                                   double prior_tries) {
  AcceptStats stats = older;
  stats.prior_ = prior;
  stats.prior_tries_ = prior_tries;
  const auto fade = [share](Count& count) {
    count.taken *= share;
    count.tries *= share;
  };
  for (Count& count : stats.all_) fade(count);
  for (Buckets& buckets : stats.by_bucket_)
    for (Count& count : buckets) fade(count);
  // The same steps are in the counts of the kinds: they would count twice against the prior.
  stats.by_kind_ = {};
  stats.by_kind_bucket_ = {};
  return stats;
}

double AcceptStats::shrunk(const Count& count, double parent, double parent_tries) const {
  if (count.tries <= 0) return parent;
  const double kept = std::exp2(-static_cast<double>(now_ - count.at) / kHalfLife);
  return (count.taken * kept + parent * parent_tries) / (count.tries * kept + parent_tries);
}

void AcceptStats::add(Count& count, bool taken) const {
  const double kept =
      std::exp2(-static_cast<double>(now_ - count.at) / kHalfLife) * (1 - 1 / kTriesMax);
  count.taken = count.taken * kept + (taken ? 1 : 0);
  count.tries = count.tries * kept + 1;
  count.at = now_;
}

double AcceptStats::rate(int kind, int position, int bucket) const {
  const auto k = static_cast<size_t>(kind);
  const int last = std::min(position, kDraftDepthMax - 1);
  double all = prior_, own = prior_;
  for (int i = 0; i <= last; ++i) {
    const auto at = static_cast<size_t>(i);
    all = shrunk(all_[at], all, i == 0 ? prior_tries_ : kParentTries);
    own = shrunk(by_kind_[k][at], all, kParentTries);
  }
  if (bucket < 0) return own;
  const auto c = static_cast<size_t>(std::min(position, kPositionClasses - 1));
  const auto b = static_cast<size_t>(bucket);
  return shrunk(by_kind_bucket_[k][c][b], shrunk(by_bucket_[c][b], own, kParentTries),
                kParentTries);
}

void AcceptStats::observe(int kind, int position, int bucket, bool taken) {
  const auto k = static_cast<size_t>(kind);
  const auto at = static_cast<size_t>(std::min(position, kDraftDepthMax - 1));
  add(all_[at], taken);
  add(by_kind_[k][at], taken);
  if (bucket < 0) return;
  const auto c = static_cast<size_t>(std::min(position, kPositionClasses - 1));
  const auto b = static_cast<size_t>(bucket);
  add(by_bucket_[c][b], taken);
  add(by_kind_bucket_[k][c][b], taken);
}

}  // namespace aurora
