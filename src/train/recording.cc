#include "train/recording.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

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
  if (Status s = recording->scan(); !s) return s;
  std::vector<const Request*> as_recorded;
  for (const Request& request : recording->requests_) as_recorded.push_back(&request);
  recording->set_order(as_recorded);
  return recording;
}

Status Recording::scan() {
  std::unordered_map<uint64_t, size_t> by_id;
  std::vector<std::pair<uint64_t, uint64_t>> rollouts;  // of the request, sequence
  for (uint64_t after = 0;;) {
    auto records = as_recorded(after, kScanRecords, kScanBytes);
    if (!records) return records.status();
    if (records->empty()) break;
    after = records->back().sequence;
    for (const StoredRecord& stored : *records) {
      const TraceRecord& record = stored.record;
      if (record.rollout_of != 0) {
        rollouts.emplace_back(record.rollout_of, stored.sequence);
        continue;
      }
      by_id[record.id] = requests_.size();
      requests_.push_back({stored.sequence, record.domain, {}});
    }
  }
  for (const auto& [request, sequence] : rollouts) {
    const auto found = by_id.find(request);
    if (found != by_id.end()) requests_[found->second].rollouts.push_back(sequence);
  }
  return Status::ok();
}

void Recording::set_order(const std::vector<const Request*>& requests) {
  order_.clear();
  for (const Request* request : requests) {
    order_.push_back(request->sequence);
    order_.insert(order_.end(), request->rollouts.begin(), request->rollouts.end());
  }
}

Status Recording::sort_by_domain(const std::vector<std::string>& domains, size_t requests_max) {
  std::vector<const Request*> sorted;
  for (const std::string& domain : domains) {
    size_t found = 0;
    for (const Request& request : requests_) {
      if (request.domain != domain || found == requests_max) continue;
      sorted.push_back(&request);
      ++found;
    }
    if (found == 0) return Status::invalid("no record of the domain " + domain);
  }
  set_order(sorted);
  return Status::ok();
}

Result<std::vector<StoredRecord>> Recording::next(uint64_t after, size_t count, size_t bytes_max) {
  std::vector<StoredRecord> out;
  for (; after < order_.size() && out.size() < count; ++after) {
    auto one = as_recorded(order_[after] - 1, 1, bytes_max);
    if (!one) return one;
    // Gone since it was scanned: what comes then is another one.
    if (one->empty() || one->front().sequence != order_[after]) continue;
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
