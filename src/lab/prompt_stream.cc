#include "lab/prompt_stream.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>

namespace aurora {
namespace {

constexpr int64_t kHostileTokensLeast = 8;  // of an answer: so many prompts are made
constexpr size_t kHostileMax = 100'000;

Result<std::vector<std::vector<Prompt>>> read_parts(const FlywheelOptions& options) {
  std::vector<std::vector<Prompt>> parts;
  if (options.stream == Stream::kHostile) {
    const auto count = static_cast<size_t>(options.learn_tokens / kHostileTokensLeast) + 64;
    parts.push_back(hostile_prompts(std::min(count, kHostileMax), options.seed));
    return parts;
  }
  TrafficOptions traffic;
  traffic.mixed = options.stream == Stream::kMixed;
  traffic.seed = options.seed;
  std::vector<std::vector<std::string>> files = {options.prompts};
  if (!traffic.mixed) {
    files.clear();
    for (const std::string& file : options.prompts) files.push_back({file});
  }
  for (const auto& of_part : files) {
    auto prompts = read_traffic(of_part, traffic);
    if (!prompts) return prompts.status();
    parts.push_back(std::move(*prompts));
  }
  return parts;
}

// Served tokens at which each part ends: shares as the parts have prompts, but for the first where
// a draft is frozen at its end.
std::vector<int64_t> part_ends(const FlywheelOptions& options,
                               const std::vector<std::vector<Prompt>>& parts) {
  const size_t first = options.static_tokens > 0 ? 1 : 0;
  std::vector<int64_t> ends(first, options.static_tokens);
  size_t all = 0, before = 0;
  for (size_t i = first; i < parts.size(); ++i) all += parts[i].size();
  const auto rest = static_cast<double>(options.learn_tokens - options.static_tokens);
  for (size_t i = first; i < parts.size(); ++i) {
    before += parts[i].size();
    const double share = static_cast<double>(before) / static_cast<double>(all);
    ends.push_back(options.static_tokens + static_cast<int64_t>(rest * share));
  }
  ends.back() = std::numeric_limits<int64_t>::max();
  return ends;
}

std::string name_of_part(const FlywheelOptions& options, size_t part) {
  if (options.stream != Stream::kOrdered) return to_string(options.stream);
  return std::filesystem::path(options.prompts[part]).stem().string();
}

}  // namespace

Result<PromptStream> PromptStream::open(const FlywheelOptions& options) {
  auto parts = read_parts(options);
  if (!parts) return parts.status();
  PromptStream stream;
  stream.count_ = options.stream == Stream::kHostile ? 0 : options.count;
  const size_t wanted = stream.count_ * options.slots.size();
  std::vector<Prompt>& last = parts->back();
  if (last.size() <= wanted)
    return Status::invalid("all arms are asked " + std::to_string(wanted) +
                           " prompts, and there are " + std::to_string(last.size()) +
                           "; give more, or a smaller --count");
  const auto cut = last.end() - static_cast<ptrdiff_t>(wanted);
  stream.kept_back_.assign(std::make_move_iterator(cut), std::make_move_iterator(last.end()));
  last.erase(cut, last.end());
  const std::vector<int64_t> ends = part_ends(options, *parts);
  for (size_t i = 0; i < parts->size(); ++i)
    stream.parts_.push_back({name_of_part(options, i), std::move((*parts)[i]), ends[i]});
  return stream;
}

std::span<const Prompt> PromptStream::next(size_t count, int64_t served) {
  while (part_ < parts_.size() &&
         (served >= parts_[part_].until_tokens || at_ == parts_[part_].prompts.size())) {
    if (part_ + 1 == parts_.size()) return {};
    ++part_;
    at_ = 0;
  }
  const std::span<const Prompt> all(parts_[part_].prompts);
  const auto some = all.subspan(at_, std::min(count, all.size() - at_));
  at_ += some.size();
  return some;
}

std::span<const Prompt> PromptStream::given(size_t count) const {
  const size_t some = std::min(count, at_);
  return std::span<const Prompt>(parts_[part_].prompts).subspan(at_ - some, some);
}

std::span<const Prompt> PromptStream::kept_back(size_t i) const {
  return std::span<const Prompt>(kept_back_).subspan(i * count_, count_);
}

}  // namespace aurora
