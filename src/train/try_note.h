// Which records the trainer is working on, in a small file: where it dies of one, the next life
// knows. All that were being worked on are suspects then and are tried alone; one that the trainer
// dies of again is poison and is left out for good, all of it. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file_handle.h"
#include "trace/record.h"

namespace aurora {

// A record or a segment of one, told apart by where its first served token stands in the request.
struct Piece {
  uint64_t id = 0;
  int64_t first = 0;
  friend auto operator<=>(const Piece&, const Piece&) = default;
};
Piece piece_of(const TraceRecord& record);

class TryNote {
 public:
  // Reads what the last life left behind. An empty path, or one that cannot be opened: nothing is
  // noted and nobody is suspected.
  explicit TryNote(const std::string& path);

  // Before and after the try. One write into the page cache each, no sync: it is the process that
  // may die, and not the machine.
  void begin(std::span<const Piece> pieces);
  void end();  // all of them survived; one that was tried alone is no suspect any more

  bool suspect(const Piece& piece) const;
  bool poison(uint64_t id) const;  // any piece of the record

  static constexpr size_t kTriedMax = 256, kSuspectsMax = 256;  // beyond: not noted; the oldest go
  static constexpr int kDeathsMax = 2;

 private:
  struct Suspect {
    Piece piece;
    int32_t deaths = 0;
  };
  bool read();
  void count_deaths();
  void write() const;

  FileHandle file_;
  std::vector<Piece> tried_;
  std::vector<Suspect> suspects_;
};

}  // namespace aurora
