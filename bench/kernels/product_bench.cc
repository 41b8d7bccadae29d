// Matrix products of every type on every backend over n tokens: billion multiply-adds a second, and
// the share of what the CPU can do (peak_loop.h). Each product reads weights that no cache holds.
//   product_bench [--threads N] [--types Q4_K,Q6_K] [--backends avx2] [--tokens 1,8]
//                 [--rows 8960] [--columns 1536]
// Best of five; other work on the machine shows as a lower share of both.
#include <algorithm>
#include <barrier>
#include <cstdio>
#include <ctime>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/product.h"
#include "peak_loop.h"

namespace aurora::kernels {
namespace {

constexpr size_t kPoolBytes = size_t{96} << 20;  // weights in turn, more than caches hold
constexpr int kRepeats = 5;
constexpr double kRepeatSeconds = 0.04;

struct Options {
  int threads = 1;
  int64_t rows = 8960, columns = 1536;
  std::vector<std::string> types, backends;  // empty: all
  std::vector<int> tokens = {1, 2, 4, 5, 6, 8, 12, 16, 24, 32, 128};
};

double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// `work(thread)` on all threads at once: the CPU time of the one that took most, so that a thread
// that had to wait for its core counts no more than what it did there.
double seconds_of(int threads, const std::function<void(int)>& work) {
  std::barrier start(threads);
  std::vector<double> seconds(static_cast<size_t>(threads));
  {
    std::vector<std::jthread> running;
    for (int t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        start.arrive_and_wait();
        const double begin = thread_cpu_seconds();
        work(t);
        seconds[static_cast<size_t>(t)] = thread_cpu_seconds() - begin;
      });
    }
  }
  return *std::max_element(seconds.begin(), seconds.end());
}

double best_seconds(int threads, const std::function<void(int)>& work) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; ++i) best = std::min(best, seconds_of(threads, work));
  return best;
}

double peak_gmac(const Backend& backend, int threads) {
  constexpr int64_t kRounds = 4'000'000;
  const double macs = peak_rounds(backend, 1);
  if (macs == 0) return 0;
  const double seconds = best_seconds(threads, [&](int) { peak_rounds(backend, kRounds); });
  return macs * static_cast<double>(kRounds) * threads / seconds * 1e-9;
}

// The products of one type: as many matrices as fill the pool, taken in turn.
class Products {
 public:
  Products(WeightType type, const Options& options)
      : options_(options), bytes_(packed_bytes(type, options.rows, options.columns)) {
    pool_.resize(std::max(kPoolBytes / bytes_, size_t{1}) * bytes_);
    for (size_t i = 0; i < pool_.size(); ++i) pool_[i] = static_cast<uint8_t>((i * 37) & 0x3f);
    type_ = type;
  }

  // Multiply-adds a second, billions.
  double gmac(const Backend& backend, int tokens) {
    const std::vector<float> values(static_cast<size_t>(options_.columns), 0.5f);
    std::vector<float> out(static_cast<size_t>(options_.rows * tokens));
    std::vector<uint8_t> activations(activation_bytes(type_, tokens, options_.columns));
    for (int t = 0; t < tokens; ++t) {
      round_token(backend, matrix(0), t, tokens, values.data(), 0, options_.columns,
                  activations.data());
    }
    const auto once = [&](int64_t product, int thread) {
      const Matrix weights = matrix(product);
      const int64_t panels = weights.panels();
      multiply_panels(backend, weights, activations.data(), tokens,
                      panels * thread / options_.threads, panels * (thread + 1) / options_.threads,
                      {out.data(), options_.rows});
    };
    const double single = seconds_of(options_.threads, [&](int t) { once(0, t); });
    const auto count = static_cast<int64_t>(std::max(1.0, kRepeatSeconds / single));
    const double seconds = best_seconds(options_.threads, [&](int t) {
      for (int64_t i = 0; i < count; ++i) once(i, t);
    });
    return static_cast<double>(options_.rows * options_.columns * tokens * count) / seconds * 1e-9;
  }

 private:
  Matrix matrix(int64_t i) const {
    const auto copies = static_cast<int64_t>(pool_.size() / bytes_);
    return {type_, options_.rows, options_.columns,
            pool_.data() + static_cast<size_t>(i % copies) * bytes_};
  }

  const Options& options_;
  size_t bytes_;
  std::vector<uint8_t> pool_;
  WeightType type_{};
};

bool wanted(const std::vector<std::string>& names, const char* name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

void print_type(const Backend& backend, WeightType type, double peak, const Options& options) {
  Products products(type, options);
  std::printf("| %s | %s |", backend.name, name_of(type));
  for (int tokens : options.tokens) {
    const double gmac = products.gmac(backend, tokens);
    if (peak > 0) std::printf(" %.1f %.2f |", gmac, gmac / peak);
    else std::printf(" %.1f |", gmac);
    std::fflush(stdout);
  }
  std::printf("\n");
}

void print_rounding(const Backend& backend) {
  constexpr int64_t kColumns = 1536, kTimes = 1000;
  const std::vector<float> values(kColumns, 0.5f);
  std::vector<ActivationBlock> blocks(kColumns / kBlock);
  std::printf("%s, rounding 32 activations, ns:", backend.name);
  for (WeightType type : {WeightType::kQ4_K, WeightType::kQ4_0, WeightType::kQ6_K}) {
    const double seconds = best_seconds(1, [&](int) {
      for (int64_t i = 0; i < kTimes; ++i)
        backend.quantize(type, values.data(), 0, kColumns / kBlock, 1, blocks.data());
    });
    std::printf(" %s %.1f", name_of(type), seconds * 1e9 / (kTimes * kColumns / kBlock));
  }
  std::printf("\n");
}

void print_backend(const Backend& backend, const Options& options) {
  const double peak = peak_gmac(backend, options.threads);
  std::printf("\n%s, %d threads, a loop of nothing else: %.1f GMAC/s\n", backend.name,
              options.threads, peak);
  print_rounding(backend);
  std::printf("\n| backend | type |");
  for (int tokens : options.tokens) std::printf(" n = %d |", tokens);
  std::printf("\n|---|---|");
  for (size_t i = 0; i < options.tokens.size(); ++i) std::printf("---|");
  std::printf("\n");
  for (int type = 0; type < kWeightTypeCount; ++type) {
    const auto weights = static_cast<WeightType>(type);
    if (wanted(options.types, name_of(weights))) print_type(backend, weights, peak, options);
  }
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::stringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

int run(const std::vector<std::string>& words) {
  Options options;
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    const std::string& value = words[i + 1];
    if (words[i] == "--threads") options.threads = std::max(1, std::stoi(value));
    else if (words[i] == "--rows") options.rows = std::stoll(value);
    else if (words[i] == "--columns") options.columns = std::stoll(value);
    else if (words[i] == "--types") options.types = split(value);
    else if (words[i] == "--backends") options.backends = split(value);
    else if (words[i] == "--tokens") {
      options.tokens.clear();
      for (const std::string& part : split(value)) options.tokens.push_back(std::stoi(part));
    } else {
      std::fprintf(stderr, "product_bench: what is %s? See the head of its source.\n",
                   words[i].c_str());
      return 2;
    }
  }
  for (const Backend* backend : usable_backends()) {
    if (wanted(options.backends, backend->name)) print_backend(*backend, options);
  }
  return 0;
}

}  // namespace
}  // namespace aurora::kernels

int main(int argc, char** argv) { return aurora::kernels::run({argv + 1, argv + argc}); }
