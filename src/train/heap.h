// What the allocator does with freed memory. No effect but on glibc. Thread-safe.
#pragma once

namespace aurora {

// A step allocates and frees the same tensors of megabytes again and again. Without this glibc
// gives their pages back each time, and a tenth of a step goes into fetching zeroed ones.
void keep_freed_memory();

// All that is free now goes back to the system: after an offer, a start or whatever else held
// copies of the weights for once. Costs the next step a page fault for each of its pages.
void give_back_freed_memory();

}  // namespace aurora
