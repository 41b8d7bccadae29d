// Exit codes by which a program that another one keeps running says whether to start it again. Any
// other code: again, after a pause that grows.
#pragma once

namespace aurora {

inline constexpr int kBadSetupExit = 2;  // flags or environment: starting again cannot help
// A rank stops because another one is gone: the launcher starts all of them again, and they go on
// from the checkpoint.
inline constexpr int kRankLostExit = 3;
inline constexpr int kHeldElsewhereExit = 4;  // another process does this work here already
inline constexpr int kCannotRunExit = 127;    // no such program

}  // namespace aurora
