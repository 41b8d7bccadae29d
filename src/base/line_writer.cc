#include "base/line_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace aurora {

LineWriter::LineWriter(int fd) : fd_(fd), cells_(std::make_unique<std::array<Cell, kLines>>()) {
  for (size_t i = 0; i < kLines; ++i) (*cells_)[i].turn.store(i, std::memory_order_relaxed);
  thread_ = std::thread([this] { run(); });
}

LineWriter::~LineWriter() {
  closing_ = true;
  ++wake_;
  wake_.notify_one();
  thread_.join();
}

// D. Vyukov's bounded queue: a writer that is put to sleep between taking its cell and filling it
// holds up the thread, and no other writer.
bool LineWriter::offer(std::string_view line) {
  uint64_t number = next_.load(std::memory_order_relaxed);
  Cell* cell = nullptr;
  for (;;) {
    cell = &(*cells_)[number % kLines];
    const uint64_t turn = cell->turn.load(std::memory_order_acquire);
    if (turn == number) {
      if (next_.compare_exchange_weak(number, number + 1, std::memory_order_relaxed)) break;
    } else if (turn < number) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return false;
    } else {
      number = next_.load(std::memory_order_relaxed);
    }
  }
  cell->bytes = std::min(line.size(), kLineBytes - 1);
  std::copy_n(line.data(), cell->bytes, cell->text.data());
  cell->text[cell->bytes++] = '\n';
  cell->turn.store(number + 1, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_one();
  return true;
}

bool LineWriter::flush(std::chrono::milliseconds most) const {
  const uint64_t offered = next_.load();
  const auto give_up = std::chrono::steady_clock::now() + most;
  while (written_.load() < offered) {
    if (std::chrono::steady_clock::now() >= give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void LineWriter::run() {
  for (;;) {
    const uint32_t seen = wake_.load(std::memory_order_acquire);
    const bool closing = closing_;
    if (write_some()) continue;
    if (closing) return;
    wake_.wait(seen, std::memory_order_acquire);
  }
}

// A ring full at most, then what was dropped meanwhile. False: there was nothing to write.
bool LineWriter::write_some() {
  const uint64_t first = written_.load(std::memory_order_relaxed);
  uint64_t number = first;
  for (; number < first + kLines; ++number) {
    Cell& cell = (*cells_)[number % kLines];
    if (cell.turn.load(std::memory_order_acquire) != number + 1) break;
    write_all({cell.text.data(), cell.bytes});
    cell.turn.store(number + kLines, std::memory_order_release);
    written_.store(number + 1);
  }
  tell_dropped();
  return number != first;
}

void LineWriter::tell_dropped() {
  const uint64_t dropped = dropped_.load(std::memory_order_relaxed);
  if (dropped == told_) return;
  char line[96];
  const int length =
      std::snprintf(line, sizeof line, "aurora.log W %llu lines were dropped: nobody read them\n",
                    static_cast<unsigned long long>(dropped - told_));
  told_ = dropped;
  write_all({line, static_cast<size_t>(length)});
}

// A file that takes no more at all (a closed pipe, a full disk) loses the line.
void LineWriter::write_all(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd_, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) {  // who shares the terminal with us may not want to wait
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    if (wrote <= 0) return;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
}

}  // namespace aurora
