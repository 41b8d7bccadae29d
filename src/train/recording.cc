#include "train/recording.h"

#include <algorithm>

namespace aurora {
namespace {

constexpr size_t kScanBytes = 256u << 20;
constexpr size_t kScanRecords = 64;

}  // namespace

Result<std::unique_ptr<Recording>> Recording::open(const std::vector<std::string>& dirs) {
  auto recording = std::make_unique<Recording>();
  for (const std::string& dir : dirs) {
    auto buffer = open_lmdb_buffer({.dir = dir, .role = TraceBufferOptions::Role::kReader});
    if (!buffer) return buffer.status();
    auto stats = (*buffer)->stats();
    if (!stats) return stats.status();
    const uint64_t before = recording->parts_.empty() ? 0 : recording->parts_.back().end;
    recording->parts_.push_back({std::move(*buffer), before, before + stats->last_sequence});
  }
  return recording;
}

Status Recording::sort_by_domain(const std::vector<std::string>& domains, size_t requests_max) {
  std::vector<std::vector<uint64_t>> found(domains.size());
  for (uint64_t after = 0;;) {
    auto records = as_recorded(after, kScanRecords, kScanBytes);
    if (!records) return records.status();
    if (records->empty()) break;
    after = records->back().sequence;
    for (const StoredRecord& stored : *records) {
      const auto at = std::find(domains.begin(), domains.end(), stored.record.domain);
      if (at == domains.end()) continue;
      auto& list = found[static_cast<size_t>(at - domains.begin())];
      if (list.size() < requests_max) list.push_back(stored.sequence);
    }
  }
  std::vector<uint64_t> order;
  for (size_t i = 0; i < domains.size(); ++i) {
    if (found[i].empty()) return Status::invalid("no record of the domain " + domains[i]);
    order.insert(order.end(), found[i].begin(), found[i].end());
  }
  order_ = std::move(order);
  return Status::ok();
}

Result<std::vector<StoredRecord>> Recording::next(uint64_t after, size_t count, size_t bytes_max) {
  if (order_.empty()) return as_recorded(after, count, bytes_max);
  std::vector<StoredRecord> out;
  for (; after < order_.size() && out.size() < count; ++after) {
    auto one = as_recorded(order_[after] - 1, 1, bytes_max);
    if (!one) return one;
    if (one->empty()) break;
    one->front().sequence = after + 1;
    out.push_back(std::move(one->front()));
  }
  return out;
}

Result<std::vector<StoredRecord>> Recording::read(uint64_t after, size_t count, size_t bytes_max) {
  auto records = next(after, count, bytes_max);
  if (!records) return records;
  std::erase_if(*records, [this](const StoredRecord& r) { return r.sequence > up_to_; });
  return records;
}

Result<TraceBufferStats> Recording::stats() {
  TraceBufferStats stats;
  stats.last_sequence = up_to_;
  return stats;
}

Result<std::vector<StoredRecord>> Recording::as_recorded(uint64_t after, size_t count,
                                                         size_t bytes_max) {
  for (const Part& part : parts_) {
    if (after >= part.end) continue;
    auto records = part.buffer->read(std::max(after, part.before) - part.before, count, bytes_max);
    if (!records || !records->empty()) {
      if (records)
        for (StoredRecord& stored : *records) stored.sequence += part.before;
      return records;
    }
  }
  return std::vector<StoredRecord>{};
}

}  // namespace aurora
