// What a fleet does to itself and to its trainer, second by second: adoption of a draft by many
// servers, sampling of requests, and a trainer that gets more than it can learn. What decides is
// the real code where there is some: hash_share (who is sampled, who waits how long) and Window
// (what the trainer draws, and what it lets go). Nothing here is measured on a network: rates are
// arguments.
//   fleet [--servers N] [--draft-mb X] [--link-mb X] [--broker-mb X] [--tokens-s X] [--rows-s X]
//         [--record-mb X] [--stream-mb X] [--minutes N]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/hash_share.h"
#include "base/median.h"
#include "base/parse_number.h"
#include "train/window.h"

namespace aurora {
namespace {

struct Options {
  int servers = 1000;
  double draft_mb = 12.3;   // SmolLM2-135M's, Q8_0
  double link_mb = 125;     // of a server, MB/s: 1 Gbit/s
  double broker_mb = 3750;  // of all brokers together: three of 10 Gbit/s
  double tokens_s = 100;    // that one server serves
  double rows_s = 1200;     // of one rank: four cores
  double record_mb = 1.0;
  int served_tokens = 160;    // of a request
  double stream_mb = 107374;  // the brokers' bound, 100 GiB
  int minutes = 20;
};

// ---- Adoption ----------------------------------------------------------------------------------

struct Adoption {
  int fetching_max = 0;
  double mb_s_max = 0;
  int swaps_in_second_max = 0;
  double last_s = 0;
};

// Every server waits its share of the window, then fetches; the brokers share what they can send
// evenly among those that fetch.
Adoption adopt(const Options& options, double window_s) {
  constexpr double kStepS = 0.01;
  std::vector<double> starts;
  for (int i = 0; i < options.servers; ++i)
    starts.push_back(window_s * hash_share("aurora-server-" + std::to_string(i)));
  std::sort(starts.begin(), starts.end());
  std::vector<double> left;  // MB of each server that fetches
  std::map<int, int> swaps;  // by second
  Adoption result;
  size_t next = 0;
  for (double now = 0; next < starts.size() || !left.empty(); now += kStepS) {
    for (; next < starts.size() && starts[next] <= now; ++next) left.push_back(options.draft_mb);
    if (left.empty()) continue;
    const double fetching = static_cast<double>(left.size());
    const double rate = std::min(options.link_mb, options.broker_mb / fetching);
    result.fetching_max = std::max(result.fetching_max, static_cast<int>(left.size()));
    result.mb_s_max = std::max(result.mb_s_max, rate * fetching);
    const auto done = std::partition(left.begin(), left.end(),
                                     [&](double& mb) { return (mb -= rate * kStepS) > 0; });
    swaps[static_cast<int>(now)] += static_cast<int>(left.end() - done);
    if (done != left.end()) result.last_s = now + kStepS;
    left.erase(done, left.end());
  }
  for (const auto& [second, count] : swaps)
    result.swaps_in_second_max = std::max(result.swaps_in_second_max, count);
  return result;
}

void print_adoption(const Options& options) {
  std::printf(
      "\nA draft of %.1f MB, %d servers with %.0f MB/s each, brokers with %.0f MB/s.\n\n"
      "| stagger | fetching at once | MB/s at most | swaps in the busiest second | all have it "
      "after |\n"
      "|---|---|---|---|---|\n",
      options.draft_mb, options.servers, options.link_mb, options.broker_mb);
  for (const int window_s : {0, 10, 30, 60, 120, 300, 600}) {
    const Adoption a = adopt(options, window_s);
    std::printf("| %d s | %d | %.0f | %d | %.1f s |\n", window_s, a.fetching_max, a.mb_s_max,
                a.swaps_in_second_max, a.last_s);
  }
}

// ---- Training ----------------------------------------------------------------------------------

struct Training {
  double offered_records_s = 0;
  double taken_mb_s = 0;     // of traces to the brokers
  double trained_share = 0;  // of the sampled records: had a pass at least
  double passes_mean = 0;    // of the recent records' passes, over those with any
  double age_s = 0;          // of a record at its first pass, median
};

// The bounds of the trainer's own reading, src/train/train_loop.cc.
constexpr size_t kUntrainedMax = 32;
constexpr uint64_t kLagMax = 128;
constexpr size_t kReadRecords = 16;
constexpr double kReadMb = 64;
constexpr int kColumns = 64;  // of one step

class Trainer {
 public:
  Trainer(const Options& options, int ranks)
      : options_(options), rows_s_(options.rows_s * ranks), window_(window_options(options)) {}

  // Every server offers `records_s` / servers; one second at a time.
  Training run(double records_s, double rate) {
    Training result;
    uint64_t request = 0, sampled = 0;
    double due = 0;
    const int seconds = options_.minutes * 60;
    for (int second = 0; second < seconds; ++second) {
      for (due += records_s; due >= 1; due -= 1) {
        if (hash_share(request++) >= rate) continue;
        stream_.push_back(second + 1 - due / std::max(1.0, records_s));
        ++sampled;
        if (static_cast<double>(stream_.size()) * options_.record_mb > options_.stream_mb) {
          lost_ += stream_.front() <= seconds - 60;
          stream_.pop_front();
        }
      }
      learn_until(second + 1);
    }
    result.offered_records_s = records_s;
    result.taken_mb_s = static_cast<double>(sampled) / seconds * options_.record_mb;
    // What is still in the window may get its first pass later: a minute at the end is not counted.
    uint64_t counted = lost_, trained = 0, passes = 0;
    std::vector<double> ages;
    for (const Fate& fate : fates_) {
      if (fate.created_s > seconds - 60) continue;
      ++counted;
      if (fate.passes == 0) continue;
      ++trained;
      passes += fate.passes;
      ages.push_back(fate.age_s);
    }
    // Records that the trainer has not read yet count as not trained.
    for (double created : stream_) counted += created <= seconds - 60;
    if (counted > 0)
      result.trained_share = static_cast<double>(trained) / static_cast<double>(counted);
    if (trained > 0)
      result.passes_mean = static_cast<double>(passes) / static_cast<double>(trained);
    result.age_s = median(std::move(ages));
    return result;
  }

 private:
  struct Fate {
    double created_s = 0;
    uint32_t passes = 0;
    double age_s = 0;  // at the first pass
  };

  static WindowOptions window_options(const Options& options) {
    WindowOptions w;
    const double fit = static_cast<double>(w.bytes_max) * 1e-6 / options.record_mb;
    w.recent_max = std::min(w.recent_max, static_cast<size_t>(std::max(1.0, fit)));
    return w;
  }

  // As TrainLoop::step: reads where little is untrained or the stream runs ahead, then one step.
  void learn_until(double end_s) {
    while (now_s_ < end_s) {
      if (!window_.has_work() || window_.untrained() < kUntrainedMax || stream_.size() > kLagMax)
        read();
      if (!window_.has_work()) {
        now_s_ = stream_.empty() ? end_s : std::max(now_s_, stream_.front());  // idle till then
        continue;
      }
      const auto entries = window_.draw(kColumns, rng_);
      double columns = 0;
      for (const WindowEntry* entry : entries) {
        Fate& fate = fates_.at(entry->sequence - 1);
        if (fate.passes++ == 0) fate.age_s = now_s_ - fate.created_s;
        columns += entry->record->served_tokens();
      }
      now_s_ += columns / rows_s_;
    }
  }

  void read() {
    const size_t by_bytes = static_cast<size_t>(std::max(1.0, kReadMb / options_.record_mb));
    for (size_t i = 0; i < std::min(kReadRecords, by_bytes) && !stream_.empty(); ++i) {
      if (stream_.front() > now_s_) return;
      fates_.push_back({.created_s = stream_.front()});
      stream_.pop_front();
      StoredRecord stored;
      stored.sequence = fates_.size();
      stored.record.id = stored.sequence;
      stored.record.prompt_tokens = 1;
      stored.record.tokens.resize(static_cast<size_t>(options_.served_tokens) + 1);
      window_.add(std::move(stored), rng_);
    }
  }

  const Options options_;
  const double rows_s_;
  Window window_;
  SmallRng rng_{1};
  std::deque<double> stream_;  // when each record was made, oldest first
  std::vector<Fate> fates_;    // of what was read, by sequence
  uint64_t lost_ = 0;          // dropped by the bound
  double now_s_ = 0;
};

void print_training(const Options& options) {
  std::printf(
      "\n%.0f tokens/s a server, %d of a request, records of %.2f MB, %.0f rows/s a rank, %d "
      "minutes.\n\n"
      "| servers | ranks | capture rate | traces, MB/s | of these trained | passes | age at the "
      "first pass |\n"
      "|---|---|---|---|---|---|---|\n",
      options.tokens_s, options.served_tokens, options.record_mb, options.rows_s, options.minutes);
  for (const int servers : {1, 10, 100, options.servers}) {
    for (const int ranks : {1, 8}) {
      for (const double rate : {1.0, 0.1, 0.01}) {
        const double records_s = servers * options.tokens_s / options.served_tokens;
        if (records_s * rate < 0.05) continue;  // a trainer that only waits
        const Training t = Trainer(options, ranks).run(records_s, rate);
        std::printf("| %d | %d | %g | %.1f | %.1f %% | %.1f | %.1f s |\n", servers, ranks, rate,
                    t.taken_mb_s, 100 * t.trained_share, t.passes_mean, t.age_s);
      }
    }
  }
}

// ---- Sampling ----------------------------------------------------------------------------------

// Requests of each server for an hour, numbered from a random begin as aurora serve does.
void print_sampling(const Options& options) {
  const int requests = static_cast<int>(3600 * options.tokens_s / options.served_tokens);
  std::printf(
      "\n%d servers, %d requests each in an hour.\n\n"
      "| capture rate | recorded | of one server, least | most |\n|---|---|---|---|\n",
      options.servers, requests);
  for (const double rate : {0.5, 0.1, 0.01}) {
    SmallRng rng(7);
    double least = 1, most = 0, all = 0;
    for (int s = 0; s < options.servers; ++s) {
      const uint64_t begin = rng.next() << 32;
      int taken = 0;
      for (int i = 0; i < requests; ++i)
        taken += hash_share(begin + static_cast<uint64_t>(i)) < rate;
      const double share = static_cast<double>(taken) / requests;
      least = std::min(least, share);
      most = std::max(most, share);
      all += share;
    }
    std::printf("| %g | %.4f | %.4f | %.4f |\n", rate, all / options.servers, least, most);
  }
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    const auto number = [&](const char* name, double& out) {
      return flag == name && parse_number(value, 1e-3, 1e9, out);
    };
    if (flag == "--servers" && parse_number(value, 1, 100000, options.servers)) continue;
    if (flag == "--minutes" && parse_number(value, 2, 600, options.minutes)) continue;
    if (number("--draft-mb", options.draft_mb) || number("--link-mb", options.link_mb) ||
        number("--broker-mb", options.broker_mb) || number("--tokens-s", options.tokens_s) ||
        number("--rows-s", options.rows_s) || number("--record-mb", options.record_mb) ||
        number("--stream-mb", options.stream_mb))
      continue;
    return false;
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  aurora::Options options;
  if (!aurora::parse(argc, argv, options)) {
    std::fputs(
        "fleet: [--servers N] [--draft-mb X] [--link-mb X] [--broker-mb X] [--tokens-s X] "
        "[--rows-s X] [--record-mb X] [--stream-mb X] [--minutes N]\n",
        stderr);
    return 2;
  }
  aurora::print_adoption(options);
  aurora::print_sampling(options);
  aurora::print_training(options);
  return 0;
}
