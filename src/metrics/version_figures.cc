#include "metrics/version_figures.h"

#include <algorithm>

#include "metrics/metrics.h"

namespace aurora {

VersionFigures::VersionFigures() { entries_[0].version = 0; }

VersionFigures::Entry& VersionFigures::entry(int64_t version) {
  auto found = std::find_if(entries_.begin(), entries_.end(),
                            [version](const Entry& e) { return e.version == version; });
  if (found == entries_.end()) {
    found = std::min_element(entries_.begin() + 1, entries_.end(),
                             [](const Entry& a, const Entry& b) { return a.used < b.used; });
    // Nobody's while it changes: text() takes no version's counts for another's.
    found->version = kNobody;
    found->tokens = 0;
    found->steps = 0;
    found->version = version;
  }
  found->used = ++uses_;
  return *found;
}

std::string VersionFigures::text() const {
  Metrics shown;
  const auto show = [&shown](const char* name, const char* help, int64_t version, uint64_t value) {
    shown.counter(name, help, label("version", std::to_string(version))).add(value);
  };
  for (const Entry& e : entries_) {
    const int64_t version = e.version;
    const uint64_t tokens = e.tokens, steps = e.steps;
    if (version == kNobody || e.version != version) continue;
    show("aurora:version_generated_tokens_total",
         "Tokens by the draft version that could draft for their step, 0: none.", version, tokens);
    show("aurora:version_target_steps_total",
         "Target decode steps by the draft version that could draft for them, 0: none.", version,
         steps);
  }
  return shown.text();
}

}  // namespace aurora
