// How a process begins that works beside a server: it ends with the server, takes only the time
// that nobody else wants, and is the first to go when memory runs out. Call in main(), before
// anything starts a thread: threads inherit all of it. Failures are logged and change nothing.
#pragma once

#include <string>
#include <vector>

namespace aurora {

// The parent writes its pid there, so that a child that starts after its death notices.
inline constexpr const char* kParentVariable = "AURORA_PARENT_PID";

// SIGTERM when the thread that started this process ends, and no signal where nobody reads what
// this one writes. Ends the process where that has happened
// already. False: nobody keeps this process.
bool follow_parent();

// To the kernel's scheduler: with kIdleClass a thread runs while no other wants the core, and stops
// at once when one does. Otherwise a nice value.
inline constexpr int kIdleClass = -1;
void lower_priority(int nice);

// Never makes the process safer than it was.
void offer_to_oom_killer();

// Starts this program anew with these variables, once: libraries read them, and start threads,
// before main(). Values that the user has set stay where `ours` is false.
struct Variable {
  const char* name;
  std::string value;
  bool ours = false;
};
void restart_with(const std::vector<Variable>& variables, char** argv);

}  // namespace aurora
