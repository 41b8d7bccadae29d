#include "train/window.h"

#include <algorithm>

#include "base/hash_share.h"
#include "base/log.h"

namespace aurora {

uint64_t SmallRng::next() {
  state_ += 0x9E3779B97F4A7C15ull;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

namespace {

constexpr uint64_t kShareOfBytes = 4;  // one request, and the holdout, take 1/4 at most
constexpr size_t kFewEntries = 32;     // less is no mixture to learn from: said once

template <typename Entries>
bool has_id(const Entries& entries, uint64_t id) {
  return std::any_of(entries.begin(), entries.end(),
                     [id](const WindowEntry& e) { return e.id == id; });
}

// The segments that are kept: as many as fit, evenly along the record.
std::vector<uint32_t> kept_segments(const TraceRecord& record, const WindowOptions& options) {
  const auto count = static_cast<uint64_t>(segment_count(record, options.segments));
  const uint64_t fit =
      options.bytes_max / kShareOfBytes / segment_bytes_max(record, options.segments);
  const uint64_t kept = std::clamp<uint64_t>(fit, 1, count);
  std::vector<uint32_t> segments;
  for (uint64_t i = 0; i < kept; ++i) segments.push_back(static_cast<uint32_t>(i * count / kept));
  return segments;
}

}  // namespace

uint64_t record_bytes(const TraceRecord& r) {
  return (r.taps.size() + r.refused_taps.size()) * 2 +
         (r.laws.ids.size() + r.refused_laws.ids.size()) * 8 + r.tokens.size() * 4 + 512;
}

std::shared_ptr<const TraceRecord> segment_of(TraceRecord& record, uint32_t segment,
                                              const SegmentOptions& options) {
  if (segment >= static_cast<uint32_t>(segment_count(record, options))) return nullptr;
  if (!needs_cut(record, options)) return std::make_shared<const TraceRecord>(std::move(record));
  return std::make_shared<const TraceRecord>(
      cut_segment(record, static_cast<int>(segment), options));
}

void Window::add(StoredRecord stored, SmallRng& rng) {
  const uint64_t rollout_of = stored.record.rollout_of;
  if (rollout_of != 0 && (has_id(holdout_, rollout_of) || hash_holds_out(rollout_of))) return;
  ++seen_;
  WindowEntry entry;
  entry.sequence = stored.sequence;
  entry.id = stored.record.id;
  const bool held_out = rollout_of == 0 && holds_out(entry.id);
  entry.place = held_out ? Place::kHoldout : Place::kRecent;
  for (const uint32_t segment : kept_segments(stored.record, options_)) {
    entry.segment = segment;
    entry.record = segment_of(stored.record, segment, options_.segments);
    add_segment(entry, rng);
  }
  if (held_out) bound_holdout(rng);
  shrink(rng);
}

// Room is made before the next segment is cut.
void Window::add_segment(WindowEntry entry, SmallRng& rng) {
  const uint64_t bytes = record_bytes(*entry.record);
  bytes_ += bytes;
  if (entry.place == Place::kHoldout) {
    holdout_bytes_ += bytes;
    holdout_.push_back(std::move(entry));
  } else {
    add_recent(std::move(entry), rng);
    shrink(rng);
  }
}

// Whole requests leave, the newest stays.
void Window::bound_holdout(SmallRng& rng) {
  size_t requests = 0;
  for (size_t i = 0; i < holdout_.size(); ++i)
    requests += i == 0 || holdout_[i].sequence != holdout_[i - 1].sequence;
  while (requests > 1 &&
         (requests > options_.holdout_max || holdout_bytes_ > options_.bytes_max / kShareOfBytes)) {
    const uint64_t oldest = holdout_.front().sequence;
    while (holdout_.front().sequence == oldest) {
      WindowEntry entry = std::move(holdout_.front());
      holdout_.pop_front();
      holdout_bytes_ -= record_bytes(*entry.record);
      add_recent(std::move(entry), rng);
    }
    --requests;
  }
}

bool Window::hash_holds_out(uint64_t id) const {
  return options_.holdout_max > 0 && options_.holdout_every > 0 &&
         hash_share(id) * static_cast<double>(options_.holdout_every) < 1;
}

// By a hash, and an early one so that the gate has something to look at before the tenth request.
bool Window::holds_out(uint64_t id) const {
  if (options_.holdout_every == 0 || options_.holdout_max == 0) return false;
  const bool early = holdout_.empty() && (seen_ > 1 || options_.holdout_every == 1);
  return early || hash_holds_out(id);
}

void Window::add_recent(WindowEntry entry, SmallRng& rng) {
  entry.place = Place::kRecent;
  recent_.push_back(std::move(entry));
  if (recent_.size() > options_.recent_max) retire_oldest(rng);
}

// Reservoir sampling: every record that ever left the recent ones is in it with the same chance.
void Window::retire_oldest(SmallRng& rng) {
  WindowEntry entry = std::move(recent_.front());
  recent_.pop_front();
  entry.place = Place::kReservoir;
  ++retired_;
  if (reservoir_.size() < options_.reservoir_max) {
    reservoir_.push_back(std::move(entry));
    return;
  }
  const size_t slot = rng.below(static_cast<size_t>(retired_));
  if (slot < reservoir_.size()) std::swap(reservoir_[slot], entry);
  bytes_ -= record_bytes(*entry.record);
}

void Window::shrink(SmallRng& rng) {
  while (bytes_ > options_.bytes_max && recent_.size() + reservoir_.size() > 1) {
    const size_t kept = recent_.size() + reservoir_.size() + holdout_.size();
    if (kept < kFewEntries && !warned_few_) {
      LOG_WARN("train",
               "only %zu records of this traffic fit into the %llu MiB of --train-window-mib: the "
               "draft learns from few at a time",
               kept - 1, static_cast<unsigned long long>(options_.bytes_max >> 20));
      warned_few_ = true;
    }
    if (!reservoir_.empty() && reservoir_.size() >= recent_.size()) {
      const size_t slot = rng.below(reservoir_.size());
      bytes_ -= record_bytes(*reservoir_[slot].record);
      reservoir_[slot] = std::move(reservoir_.back());
      reservoir_.pop_back();
    } else {
      retire_oldest(rng);
    }
  }
}

void Window::drop_expired(int64_t now_ms) {
  const auto expired = [this, now_ms](const WindowEntry& e) {
    if (e.record->expires_ms == 0 || e.record->expires_ms > now_ms) return false;
    bytes_ -= record_bytes(*e.record);
    if (e.place == Place::kHoldout) holdout_bytes_ -= record_bytes(*e.record);
    return true;
  };
  std::erase_if(recent_, expired);
  std::erase_if(reservoir_, expired);
  std::erase_if(holdout_, expired);
}

std::vector<const WindowEntry*> Window::draw(int columns, SmallRng& rng) {
  if (!has_work()) return {};
  std::vector<WindowEntry*> fresh, old;
  for (WindowEntry& e : recent_)
    if (e.passes < options_.passes_max) fresh.push_back(&e);
  for (WindowEntry& e : reservoir_)
    if (e.passes < options_.reservoir_passes_max) old.push_back(&e);
  std::vector<const WindowEntry*> drawn;
  int have = 0;
  while (have < columns && !fresh.empty()) {
    const bool replay = !old.empty() && !drawn.empty() && rng.chance(options_.reservoir_share);
    auto& from = replay ? old : fresh;
    size_t pick = rng.below(from.size());
    if (!replay && rng.chance(0.5)) {
      const auto less = [](const WindowEntry* a, const WindowEntry* b) {
        return a->passes < b->passes;
      };
      pick = static_cast<size_t>(std::min_element(from.begin(), from.end(), less) - from.begin());
    }
    WindowEntry* entry = from[pick];
    from.erase(from.begin() + static_cast<ptrdiff_t>(pick));
    ++entry->passes;
    ++passes_total_;
    have += std::max(1, entry->record->served_tokens() - 1);
    drawn.push_back(entry);
  }
  return drawn;
}

void Window::drop(uint64_t id) {
  const auto leaves = [this, id](const WindowEntry& e) {
    if (e.id != id) return false;
    bytes_ -= record_bytes(*e.record);
    if (e.place == Place::kHoldout) holdout_bytes_ -= record_bytes(*e.record);
    passes_total_ -= static_cast<uint64_t>(e.passes);
    return true;
  };
  std::erase_if(recent_, leaves);
  std::erase_if(reservoir_, leaves);
  std::erase_if(holdout_, leaves);
}

bool Window::holds(uint64_t id) const {
  return has_id(recent_, id) || has_id(reservoir_, id) || has_id(holdout_, id);
}

std::vector<const TraceRecord*> Window::holdout() const {
  std::vector<const TraceRecord*> out;
  for (const WindowEntry& e : holdout_) out.push_back(e.record.get());
  return out;
}

size_t Window::untrained() const {
  return static_cast<size_t>(std::count_if(recent_.begin(), recent_.end(),
                                           [](const WindowEntry& e) { return e.passes == 0; }));
}

bool Window::has_work() const {
  double passes = 0;
  for (const WindowEntry& e : recent_) passes += e.passes;
  for (const WindowEntry& e : reservoir_) passes += e.passes;
  const size_t kept = recent_.size() + reservoir_.size();
  if (passes >= options_.passes_mean * static_cast<double>(kept)) return false;
  return std::any_of(recent_.begin(), recent_.end(),
                     [this](const WindowEntry& e) { return e.passes < options_.passes_max; });
}

Window::Books Window::books() const {
  Books books = {seen_, passes_total_, retired_, {}};
  const auto add_all = [&books](const auto& entries) {
    for (const WindowEntry& e : entries)
      books.entries.push_back({e.sequence, e.id, e.passes, e.place, nullptr, e.segment});
  };
  add_all(recent_);
  add_all(reservoir_);
  add_all(holdout_);
  return books;
}

void Window::restore(Books books) {
  seen_ = books.seen;
  passes_total_ = books.passes_total;
  retired_ = books.retired;
  recent_.clear();
  reservoir_.clear();
  holdout_.clear();
  bytes_ = holdout_bytes_ = 0;
  for (WindowEntry& e : books.entries) {
    if (!e.record) continue;
    bytes_ += record_bytes(*e.record);
    if (e.place == Place::kHoldout) holdout_bytes_ += record_bytes(*e.record);
    if (e.place == Place::kReservoir) {
      reservoir_.push_back(std::move(e));
    } else {
      (e.place == Place::kHoldout ? holdout_ : recent_).push_back(std::move(e));
    }
  }
}

}  // namespace aurora
