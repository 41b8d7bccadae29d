// Where the last few tokens stood before, and what followed: drafts from repeated text, for free.
// A ring of tokens with three direct-mapped tables over it, keyed by the hash of the last 3, 5 and
// 10 tokens; the latest place wins, and a place counts only as far as its tokens really are the
// same. One thread; O(1) to append, O(match) to look up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aurora {

class NgramIndex {
 public:
  static constexpr int32_t kBreak = -1;  // between two texts: no match goes across it
  static constexpr int kMatchMax = 64;   // tokens compared backwards
  static constexpr std::array<size_t, 3> kOrders = {10, 5, 3};
  static constexpr size_t kBytesEachToken = 28;  // ring and tables

  struct Match {
    uint64_t next = 0;  // absolute position of the token that followed
    int length = 0;     // equal tokens before it, at least 3; 0: none
  };

  // Keeps the last `tokens_max` tokens, rounded up to a power of two.
  explicit NgramIndex(size_t tokens_max);

  void append(int32_t token);
  // The longest of what the tables hold for the end of `tail` (the text so far, the newest last).
  // salt: of the tail's owner; see append_salt.
  Match find(std::span<const int32_t> tail) const;
  // Tokens from `position` on, at most `count`, up to the next break.
  void copy(uint64_t position, size_t count, std::vector<int32_t>& out) const;

  // Texts of different owners do not meet in the tables.
  void set_salt(uint64_t salt) { salt_ = salt; }
  uint64_t begin() const { return end_ > capacity_ ? end_ - capacity_ : 0; }
  uint64_t end() const { return end_; }
  int32_t at(uint64_t position) const { return ring_[position & (capacity_ - 1)]; }

 private:
  size_t place(std::span<const int32_t> last) const;

  size_t capacity_;
  uint64_t end_ = 0;
  uint64_t salt_ = 0;
  int run_ = 0;  // tokens since the last break, no more than needed
  std::vector<int32_t> ring_;
  std::array<std::vector<uint32_t>, kOrders.size()> tables_;  // low bits of position + 1, 0: empty
};

}  // namespace aurora
