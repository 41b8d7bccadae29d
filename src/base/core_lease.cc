#include "base/core_lease.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/file_handle.h"

namespace aurora {

// A word is the time at which it was said (ms, upper 48 bits) and the number + 2, so that a reader
// never sees the number of one moment with the time of another. 0: nothing was ever said.
struct LeasePage {
  std::atomic<uint64_t> lent;
  std::atomic<uint64_t> wanted;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

namespace {

constexpr int kNumberBits = 16;
constexpr int kNumberMax = (1 << kNumberBits) - 3;

uint64_t word_of(int number, int64_t now_us) {
  const auto low = static_cast<uint64_t>(std::clamp(number, kAllCores, kNumberMax) + 2);
  return static_cast<uint64_t>(now_us / 1000) << kNumberBits | low;
}

// Nothing when it was said too long ago, or in the future: by a machine that has been started anew.
std::optional<int> number_of(uint64_t word, int64_t now_us, int64_t seconds_max) {
  if (word == 0) return std::nullopt;
  const int64_t age_ms = now_us / 1000 - static_cast<int64_t>(word >> kNumberBits);
  if (age_ms < -1000 || age_ms > seconds_max * 1000) return std::nullopt;
  return static_cast<int>(word & ((1u << kNumberBits) - 1)) - 2;
}

Result<std::string> page_name(const std::string& state_dir) {
  struct stat dir {};
  if (::stat(state_dir.c_str(), &dir) != 0)
    return Status::io("cannot look at " + state_dir + ": " + std::strerror(errno));
  return "/aurora-" + std::to_string(::geteuid()) + "-" + std::to_string(dir.st_dev) + "-" +
         std::to_string(dir.st_ino);
}

Result<std::shared_ptr<LeasePage>> open_page(const std::string& state_dir) {
  const auto name = page_name(state_dir);
  if (!name) return name.status();
  const auto refused = [&name](const char* what) {
    return Status::io(std::string("cannot ") + what + " shared memory " + *name + ": " +
                      std::strerror(errno));
  };
  const FileHandle handle(::shm_open(name->c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!handle.is_open()) return refused("open");
  struct stat page {};
  if (::fstat(handle.get(), &page) != 0) return refused("look at");
  if (page.st_uid != ::geteuid() || (page.st_mode & 077) != 0)
    return Status::invalid("shared memory " + *name + " is open to others; remove it");
  // Not ftruncate: the page must be there, since a store to one that memory is too short for is a
  // signal and not an error.
  if (const int error = ::posix_fallocate(handle.get(), 0, sizeof(LeasePage)); error != 0) {
    errno = error;
    return refused("allocate");
  }
  void* at =
      ::mmap(nullptr, sizeof(LeasePage), PROT_READ | PROT_WRITE, MAP_SHARED, handle.get(), 0);
  if (at == MAP_FAILED) return refused("map");
  return std::shared_ptr<LeasePage>(static_cast<LeasePage*>(at),
                                    [](LeasePage* mapped) { ::munmap(mapped, sizeof(LeasePage)); });
}

}  // namespace

void remove_core_lease(const std::string& state_dir) {
  if (const auto name = page_name(state_dir)) ::shm_unlink(name->c_str());
}

Result<CoreLender> CoreLender::open(const std::string& state_dir, std::function<int64_t()> now_us) {
  auto page = open_page(state_dir);
  if (!page) return page.status();
  return CoreLender(std::move(*page), std::move(now_us));
}

void CoreLender::publish(int cores) {
  page_->lent.store(word_of(cores, now_us_()), std::memory_order_relaxed);
}

bool CoreLender::wanted() const {
  const uint64_t word = page_->wanted.load(std::memory_order_relaxed);
  const int64_t now = now_us_();
  const auto wish = number_of(word, now, kWishSeconds);
  if (!wish) return false;  // nobody trains
  const bool look = announced_us_ != 0 && now - announced_us_ < kLookSeconds * 1'000'000 &&
                    static_cast<int64_t>(word >> kNumberBits) <= announced_us_ / 1000;
  return look || *wish > 0;
}

void CoreLender::forget_wish() { page_->wanted.store(0, std::memory_order_relaxed); }

Result<CoreBorrower> CoreBorrower::open(const std::string& state_dir,
                                        std::function<int64_t()> now_us) {
  auto page = open_page(state_dir);
  if (!page) return page.status();
  return CoreBorrower(std::move(*page), std::move(now_us));
}

CoreBorrower::~CoreBorrower() {
  if (page_) page_->wanted.store(0, std::memory_order_relaxed);
}

int CoreBorrower::cores() const {
  const uint64_t word = page_->lent.load(std::memory_order_relaxed);
  return number_of(word, now_us_(), kLeaseSeconds).value_or(kAllCores);
}

void CoreBorrower::want(bool work) {
  page_->wanted.store(word_of(work ? 1 : 0, now_us_()), std::memory_order_relaxed);
}

}  // namespace aurora
