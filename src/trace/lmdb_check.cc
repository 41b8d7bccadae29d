#include "trace/lmdb_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "base/file_handle.h"

namespace aurora {
namespace {

constexpr uint32_t kMagic = 0xBEEFC0DE, kVersion = 1;
constexpr uint64_t kNoRoot = ~uint64_t{0};
constexpr uint64_t kMetaPages = 2;
constexpr int kDepthMax = 32;             // LMDB's stack of a cursor
constexpr uint64_t kUnwrittenMax = 4096;  // pages that the file's end may lack, at most

enum PageFlags : uint16_t { kBranch = 1, kLeaf = 2, kOverflow = 4 };
enum NodeFlags : uint16_t { kOnOwnPages = 1 };
// Of a tree: how its keys are compared. The free pages' tree has the environment's flags beside it.
enum TreeFlags : uint16_t { kNumbers = 8, kAllOfTrees = 0x7e };

struct PageHead {
  uint64_t number;
  uint16_t unused, flags;
  uint16_t lower, upper;  // kOverflow: together how many pages
};
static_assert(sizeof(PageHead) == 16);

struct Node {  // then the key; then the value, its first page's number, or nothing (branch)
  uint16_t low, high, flags, key_bytes;

  uint64_t child() const { return low | uint64_t{high} << 16 | uint64_t{flags} << 32; }
  uint64_t value_bytes() const { return low | uint64_t{high} << 16; }
};
static_assert(sizeof(Node) == 8);

struct Tree {
  uint32_t page_bytes;  // of the first tree, for all
  uint16_t flags, depth;
  uint64_t branches, leaves, overflows, entries, root;
};
static_assert(sizeof(Tree) == 48);

struct Meta {
  uint32_t magic, version;
  uint64_t address, map_bytes;
  Tree free, main;
  uint64_t last_page, transaction;
};

bool is_overflow(const PageHead& head, uint64_t number, uint64_t pages) {
  return head.number == number && head.flags == kOverflow &&
         (head.lower | uint64_t{head.upper} << 16) == pages;
}

uint64_t pages_of_value(uint64_t bytes, size_t page_bytes) {
  return (sizeof(PageHead) + bytes - 1) / page_bytes + 1;
}

template <typename T>
T read_at(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

class FileCheck {
 public:
  explicit FileCheck(FileHandle file) : file_(std::move(file)) {}

  bool is_sound() {
    const Meta first = meta_at(0);
    if (!is_known(first)) return true;
    page_bytes_ = first.free.page_bytes;
    if (page_bytes_ < 512 || page_bytes_ > 65536 || !std::has_single_bit(page_bytes_)) return false;
    const Meta second = meta_at(page_bytes_);
    if (!is_known(second)) return true;
    const Meta& newest = first.transaction < second.transaction ? second : first;
    struct stat seen {};
    failed_ = ::fstat(file_.get(), &seen) != 0;
    pages_ = newest.last_page + 1;
    const uint64_t most = static_cast<uint64_t>(seen.st_size) / page_bytes_ + kUnwrittenMax;
    if (pages_ < kMetaPages || pages_ > most) return false;
    if (newest.main.flags != 0 || (newest.free.flags & kAllOfTrees) != kNumbers) return false;
    if (newest.free.page_bytes != page_bytes_) return false;
    taken_.assign(pages_, false);
    return is_tree(newest.main) && is_tree(newest.free, /*free*/ true);
  }
  bool failed() const { return failed_; }

 private:
  // What the file's end cuts off reads as zeros.
  std::vector<std::byte> bytes_at(uint64_t offset, size_t count) {
    std::vector<std::byte> bytes(count);
    for (size_t have = 0; have < count;) {
      const ssize_t got = ::pread(file_.get(), bytes.data() + have, count - have,
                                  static_cast<off_t>(offset + have));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) failed_ = true;
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    return bytes;
  }

  Meta meta_at(uint64_t offset) {
    return read_at<Meta>(bytes_at(offset + sizeof(PageHead), sizeof(Meta)), 0);
  }
  static bool is_known(const Meta& meta) {
    return meta.magic == kMagic && meta.version == kVersion;
  }

  bool take(uint64_t page, uint64_t count) {
    if (page < kMetaPages || page >= pages_ || count > pages_ - page) return false;
    for (uint64_t i = page; i < page + count; ++i) {
      if (taken_[i]) return false;
      taken_[i] = true;
    }
    return true;
  }

  bool is_tree(const Tree& tree, bool free = false) {
    entries_ = 0;
    key_before_.clear();
    if (tree.root == kNoRoot) return tree.entries == 0;
    return tree.depth >= 1 && tree.depth <= kDepthMax && is_page(tree.root, tree.depth, free) &&
           entries_ == tree.entries;
  }

  bool is_page(uint64_t number, int depth, bool free) {
    if (!take(number, 1)) return false;
    const std::vector<std::byte> page = bytes_at(number * page_bytes_, page_bytes_);
    const auto head = read_at<PageHead>(page, 0);
    const bool leaf = depth == 1;
    if (head.number != number || head.flags != (leaf ? kLeaf : kBranch)) return false;
    if (head.lower < sizeof(PageHead) || head.lower > head.upper || head.upper > page_bytes_)
      return false;
    const size_t count = (head.lower - sizeof(PageHead)) / sizeof(uint16_t);
    if (count < (leaf || free ? 1 : 2)) return false;
    for (size_t i = 0; i < count; ++i) {
      const size_t at = read_at<uint16_t>(page, sizeof(PageHead) + i * sizeof(uint16_t));
      if (at < head.upper || at + sizeof(Node) > page_bytes_) return false;
      const auto node = read_at<Node>(page, at);
      if (at + sizeof(Node) + node.key_bytes > page_bytes_) return false;
      const auto rest = std::span(page).subspan(at + sizeof(Node));
      if (leaf ? !is_entry(node, rest, free) : !is_page(node.child(), depth - 1, free))
        return false;
    }
    return true;
  }

  // rest: from the key to the page's end.
  bool is_entry(const Node& node, std::span<const std::byte> rest, bool free) {
    ++entries_;
    std::vector<std::byte> key(rest.begin(), rest.begin() + node.key_bytes);
    if (free && key.size() != sizeof(uint64_t)) return false;
    if (!key_before_.empty() && !is_after(key, key_before_, free)) return false;
    key_before_ = std::move(key);
    const size_t value_bytes = node.value_bytes();
    const auto value = rest.subspan(node.key_bytes);
    if (node.flags == 0)
      return value_bytes <= value.size() && (!free || is_free_list(value.first(value_bytes)));
    if (node.flags != kOnOwnPages || value.size() < sizeof(uint64_t)) return false;
    const auto page = read_at<uint64_t>(value, 0);
    const uint64_t needed = pages_of_value(value_bytes, page_bytes_);
    if (!free) return take(page, needed);
    if (page < kMetaPages || page >= pages_ || needed > pages_ - page) return false;
    const auto whole = bytes_at(page * page_bytes_, sizeof(PageHead) + value_bytes);
    const auto head = read_at<PageHead>(whole, 0);
    // LMDB shortens a list in place, and leaves it the pages that it had.
    const uint64_t count = head.lower | uint64_t{head.upper} << 16;
    return count >= needed && is_overflow(head, page, count) && take(page, count) &&
           is_free_list(std::span(whole).subspan(sizeof(PageHead)));
  }

  // The free pages' keys are numbers as this machine has them, all others in the bytes' order.
  static bool is_after(const std::vector<std::byte>& key, const std::vector<std::byte>& before,
                       bool free) {
    return free ? read_at<uint64_t>(key, 0) > read_at<uint64_t>(before, 0) : key > before;
  }

  // How many, then as many page numbers, falling.
  bool is_free_list(std::span<const std::byte> value) {
    const size_t room = value.size() / sizeof(uint64_t);
    if (room == 0) return false;
    const auto count = read_at<uint64_t>(value, 0);
    if (count >= room) return false;
    for (uint64_t i = 1, before = pages_; i <= count; ++i) {
      const auto page = read_at<uint64_t>(value, i * sizeof(uint64_t));
      if (page >= before || !take(page, 1)) return false;
      before = page;
    }
    return true;
  }

  const FileHandle file_;
  size_t page_bytes_ = 0;
  uint64_t pages_ = 0;
  std::vector<bool> taken_;
  uint64_t entries_ = 0;  // of the tree that is being looked at, as is the next
  std::vector<std::byte> key_before_;
  bool failed_ = false;
};

}  // namespace

Status damaged_file(const std::string& path) {
  return Status::corrupt(path + " is damaged: move it away to start a new one");
}

Status check_lmdb_file(const std::string& path) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return Status::ok();
  FileCheck check(std::move(file));
  if (check.is_sound() && !check.failed()) return Status::ok();
  if (check.failed()) return Status::io("cannot read " + path);
  return damaged_file(path);
}

const std::byte* map_begin_of(const MDB_val& among_keys, size_t page_bytes) {
  const auto address = reinterpret_cast<uintptr_t>(among_keys.mv_data);
  const auto* page = static_cast<const std::byte*>(among_keys.mv_data) - address % page_bytes;
  return page - read_at<PageHead>({page, page_bytes}, 0).number * page_bytes;
}

bool is_on_sound_page(const MDB_val& value, std::span<const std::byte> map, size_t page_bytes) {
  const auto* page = static_cast<const std::byte*>(value.mv_data) - sizeof(PageHead);
  // What a transaction has changed, keys and the values among them, is on the heap until its end.
  if (std::less<>()(page, map.data()) || !std::less<>()(page, map.data() + map.size())) return true;
  const auto offset = static_cast<uint64_t>(page - map.data());
  if (offset % page_bytes != 0) return true;  // among the keys
  return is_overflow(read_at<PageHead>({page, page_bytes}, 0), offset / page_bytes,
                     pages_of_value(value.mv_size, page_bytes));
}

}  // namespace aurora
