// One line on stderr that says how far a phase is and how long it will take.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace aurora {

class Progress {
 public:
  void begin(std::string phase, double total);
  // At most a line each ten seconds where stderr is no terminal.
  void show(double done, const std::string& figures);
  void end();  // of the phase: what follows stands on a line of its own

 private:
  std::string phase_;
  double total_ = 1;
  int64_t began_us_ = 0, shown_us_ = 0;
};

// "40 s", "12 min", "3.1 h".
std::string shown_time(double seconds);

}  // namespace aurora
