#include "lab/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "replay/text.h"

namespace aurora {
namespace {

constexpr int64_t kLogEveryUs = 10'000'000;

bool on_terminal() { return ::isatty(STDERR_FILENO) == 1; }

}  // namespace

void Progress::begin(std::string phase, double total) {
  phase_ = std::move(phase);
  total_ = total > 0 ? total : 1;
  began_us_ = steady_us();
  shown_us_ = 0;
}

void Progress::show(double done, const std::string& figures) {
  const int64_t now_us = steady_us();
  if (!on_terminal() && shown_us_ != 0 && now_us - shown_us_ < kLogEveryUs) return;
  shown_us_ = now_us;
  const double share = done > 0 ? done / total_ : 0;
  const double took_s = static_cast<double>(now_us - began_us_) / 1e6;
  const std::string left =
      share > 0 && share < 1 ? ", " + shown_time(took_s * (1 - share) / share) + " left" : "";
  std::fprintf(stderr, on_terminal() ? "\r\033[K%s %3.0f %%%s  %s" : "%s %3.0f %%%s  %s\n",
               phase_.c_str(), 100 * (share < 1 ? share : 1.0), left.c_str(), figures.c_str());
  std::fflush(stderr);
}

void Progress::end() {
  if (on_terminal()) std::fputc('\n', stderr);
}

std::string shown_time(double seconds) {
  if (seconds < 100) return printed("%.0f s", seconds);
  if (seconds < 6000) return printed("%.0f min", seconds / 60);
  return printed("%.1f h", seconds / 3600);
}

}  // namespace aurora
