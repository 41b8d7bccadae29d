// CHECK(cond): our own fault. Logs file, line and condition, then aborts. Never for bad input: that
// is a Status.
#pragma once

namespace aurora {
[[noreturn]] void check_failed(const char* file, int line, const char* condition);
}

// LibTorch's logging defines the same name; inside our files ours is meant.
#undef CHECK
#define CHECK(cond) \
  ((cond) ? static_cast<void>(0) : ::aurora::check_failed(__FILE__, __LINE__, #cond))
