// How a server and the trainer beside it share the cores of one machine: the server says how many
// it leaves, the trainer says whether it has work for them. Both are numbers in one page of shared
// memory (not in a file of the state folder: a store to a page of a frozen disk may wait for the
// disk). Its name comes from the state folder, so that a trainer started on its own finds it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace aurora {

struct LeasePage;  // shared by the two sides

// Removes the page of a state folder: for tests, which make many folders.
void remove_core_lease(const std::string& state_dir);

// The server's side. After open() no call waits, allocates or enters the kernel.
class CoreLender {
 public:
  // io, invalid: no shared memory here, or it is somebody else's. Serve without lending.
  static Result<CoreLender> open(const std::string& state_dir,
                                 std::function<int64_t()> now_us = steady_us);

  // Cores that the trainer may use from now on, kAllCores while no request runs. Say it again at
  // least every kLeaseSeconds while requests run: a server that is silent for longer is taken for
  // gone.
  void publish(int cores);
  // A trainer lives and has work, or has not said otherwise since announce().
  bool wanted() const;
  // There is something new for a trainer that lives. In the idle class it would not get to look at
  // it beside a busy server: it is wanted for kLookSeconds, or until it speaks.
  void announce() { announced_us_ = now_us_(); }
  // For who sees a trainer die, or stops it, without its having said so.
  void forget_wish();

 private:
  CoreLender(std::shared_ptr<LeasePage> page, std::function<int64_t()> now_us)
      : page_(std::move(page)), now_us_(std::move(now_us)) {}
  std::shared_ptr<LeasePage> page_;
  std::function<int64_t()> now_us_;
  int64_t announced_us_ = 0;  // 0: never
};

// The trainer's side. Takes its wish back when it goes.
class CoreBorrower {
 public:
  static Result<CoreBorrower> open(const std::string& state_dir,
                                   std::function<int64_t()> now_us = steady_us);
  CoreBorrower(CoreBorrower&&) = default;
  CoreBorrower& operator=(CoreBorrower&&) = default;
  ~CoreBorrower();

  // What the server said last; kAllCores where none speaks.
  int cores() const;
  // Say it again at least every kWishSeconds. That is long, since a trainer on a busy machine may
  // take minutes for one step until it is lent a core.
  void want(bool work);

 private:
  CoreBorrower(std::shared_ptr<LeasePage> page, std::function<int64_t()> now_us)
      : page_(std::move(page)), now_us_(std::move(now_us)) {}
  std::shared_ptr<LeasePage> page_;
  std::function<int64_t()> now_us_;
};

constexpr int kAllCores = -1;
constexpr int64_t kLeaseSeconds = 30;  // longer than one decode step of a long prompt
constexpr int64_t kWishSeconds = 600;
constexpr int64_t kLookSeconds = 20;

}  // namespace aurora
