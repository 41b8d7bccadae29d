// Lines on their way to a file that may block for ever: a pipe that nobody reads, a terminal that
// is held, a frozen disk. A ring of 256 lines of 2 KiB and one thread that writes; full: the line
// is dropped and counted, and another one says how many once the file takes lines again.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>

namespace aurora {

class LineWriter {
 public:
  static constexpr size_t kLineBytes = 2048;  // longer ones are cut
  static constexpr size_t kLines = 256;

  explicit LineWriter(int fd);
  ~LineWriter();  // waits until all of it is written

  // Any thread. No lock, no allocation, no wait: a copy of the line, whose end of line comes from
  // here. False: there was no room.
  bool offer(std::string_view line);
  // Waits until what was offered before is written, at most so long. False: it is not.
  bool flush(std::chrono::milliseconds most) const;
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  // turn: the number of the line that may be put here, and one more once it lies here.
  struct Cell {
    std::atomic<uint64_t> turn{0};
    size_t bytes = 0;
    std::array<char, kLineBytes> text;
  };

  void run();
  bool write_some();
  void tell_dropped();
  void write_all(std::string_view text) const;

  const int fd_;
  const std::unique_ptr<std::array<Cell, kLines>> cells_;
  std::atomic<uint64_t> next_{0};     // line to be offered
  std::atomic<uint64_t> written_{0};  // lines; the thread's to change
  std::atomic<uint64_t> dropped_{0};
  std::atomic<uint32_t> wake_{0};
  std::atomic<bool> closing_{false};
  uint64_t told_ = 0;  // the thread's; of dropped_
  std::thread thread_;
};

}  // namespace aurora
