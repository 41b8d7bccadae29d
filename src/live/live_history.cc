#include "live/live_history.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/json_text.h"

namespace aurora {
namespace {

constexpr std::array<const char*, static_cast<size_t>(LiveField::kCount)> kNames = {
    "at_ms",
    "tokens",
    "steps",
    "paced_tokens",
    "paced_ms",
    "plain_ms",
    "request_text_taken",
    "traffic_text_taken",
    "chain_taken",
    "behind_taken",
    "version",
    "trainer_rows_per_second",
    "trainer_steps"};

std::string point_text(const LivePoint& point) {
  std::string text;
  for (const double value : point) {
    text += text.empty() ? "[" : ",";
    text += json_number(value);
  }
  return text + "]";
}

std::string event_text(const LiveEvent& event) {
  return "{\"at_ms\":" + std::to_string(event.at_ms) +
         ",\"tokens\":" + std::to_string(event.tokens) + ",\"kind\":" + json_quoted(event.kind) +
         ",\"version\":" + std::to_string(event.version) + ",\"text\":" + json_quoted(event.text) +
         "}";
}

struct Seen {
  unsigned long long thinned = 0, points = 0, events = 0;
};

}  // namespace

void LiveHistory::add(const LivePoint& point) {
  const std::lock_guard lock(mutex_);
  if (points_.size() >= kPointsMax) {
    for (size_t i = 0; i < points_.size() / 2; ++i) points_[i] = points_[2 * i + 1];
    points_.resize(points_.size() / 2);
    stride_ *= 2;
    ++thinned_;
  }
  points_.push_back(point);
  next_tokens_ = static_cast<uint64_t>(point[static_cast<size_t>(LiveField::kTokens)]) + stride_;
}

void LiveHistory::happened(LiveEvent event) {
  if (event.text.size() > kTextBytesMax) {
    size_t end = kTextBytesMax;
    while (end > 0 && (static_cast<unsigned char>(event.text[end]) & 0xC0u) == 0x80) --end;
    event.text.resize(end);  // between two characters
  }
  const std::lock_guard lock(mutex_);
  if (events_.size() >= kEventsMax) {
    events_.erase(events_.begin());
    ++events_dropped_;
  }
  events_.push_back(std::move(event));
}

std::string LiveHistory::json(const std::string& seen) const {
  std::vector<LivePoint> points;
  std::vector<LiveEvent> events;
  Seen now, before;
  {
    const std::lock_guard lock(mutex_);
    now = {thinned_, points_.size(), events_dropped_ + events_.size()};
    const bool known = std::sscanf(seen.c_str(), "%llu-%llu-%llu", &before.thinned, &before.points,
                                   &before.events) == 3 &&
                       before.thinned == now.thinned && before.points <= now.points &&
                       before.events <= now.events;
    if (!known) before = {now.thinned, 0, 0};
    points.assign(points_.begin() + static_cast<std::ptrdiff_t>(before.points), points_.end());
    const uint64_t first = std::max<uint64_t>(before.events, events_dropped_) - events_dropped_;
    events.assign(events_.begin() + static_cast<std::ptrdiff_t>(first), events_.end());
  }
  std::string text = "\"fields\":[", between;
  for (const char* name : kNames) text += std::exchange(between, ",") + json_quoted(name);
  text += "],\"points\":[";
  between.clear();
  for (const LivePoint& point : points) text += std::exchange(between, ",") + point_text(point);
  text += "],\"events\":[";
  between.clear();
  for (const LiveEvent& event : events) text += std::exchange(between, ",") + event_text(event);
  text += "],\"seen\":\"" + std::to_string(now.thinned) + "-" + std::to_string(now.points) + "-" +
          std::to_string(now.events) + "\",\"whole\":";
  return text + (before.points == 0 && before.events == 0 ? "true" : "false");
}

}  // namespace aurora
