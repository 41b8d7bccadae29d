// TrainLoop's checkpoint, written by rank 0 for all ranks, and the way back from it.
#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "base/clock.h"
#include "base/log.h"
#include "train/heap.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr size_t kReadRecords = 16;
constexpr size_t kReadBytes = 64u << 20;
constexpr double kCheckpointShare = 50;              // times what the last one took ...
constexpr double kCheckpointPauseSecondsMax = 1800;  // ... which one slow disk must not stretch

}  // namespace

// Rank 0 decides, for all.
Status TrainLoop::checkpoint_if(bool due) {
  const auto all = any_rank(seams_.ranks, leads() && due);
  if (!all) return all.status();
  return *all ? checkpoint() : Status::ok();
}

// Two percent of the time at most, or what a disk bears: a large draft's takes seconds.
bool TrainLoop::checkpoint_due() const {
  const double cost_s = static_cast<double>(checkpoint_cost_us_) / 1e6;
  const double pause_s = std::min(kCheckpointPauseSecondsMax, kCheckpointShare * cost_s);
  const double since_s = static_cast<double>(steady_us() - checkpoint_us_) / 1e6;
  return dirty_ && since_s >= std::max(options_.checkpoint_every_s, pause_s);
}

Status TrainLoop::checkpoint() {
  const int64_t begin_us = steady_us();
  const Status s = write_all_books();
  checkpoint_us_ = steady_us();
  checkpoint_cost_us_ = checkpoint_us_ - begin_us;
  return s;
}

Status TrainLoop::write_all_books() {
  if (options_.checkpoint_path.empty()) return Status::ok();
  Checkpoint c = state();
  if (seams_.ranks) {
    Status same = seams_.ranks->require_same(seams_.learner.checksum(), "the draft's weights");
    if (!same) return same;
    Checkpoint own;
    own.ranks = c.ranks;
    const auto all = seams_.ranks->gather(encode_checkpoint(own));
    if (!all) return all.status();
    for (size_t i = 1; leads() && i < all->size(); ++i) {
      const auto other = decode_checkpoint((*all)[i], "rank " + std::to_string(i));
      if (!other) return other.status();
      c.ranks.push_back(other->ranks[0]);
    }
  }
  dirty_ = false;
  if (!leads()) return Status::ok();
  c.learner = seams_.learner.save();
  if (Status s = write_checkpoint(options_.checkpoint_path, c); !s) {
    dirty_ = true;
    return s;
  }
  return Status::ok();
}

// Without the learner's part.
Checkpoint TrainLoop::state() const {
  Checkpoint c;
  c.target = options_.target;
  c.cursor = cursor_;
  c.steps = figures_.steps;
  c.trained_tokens = figures_.trained_tokens;
  c.offered_at = offered_at_;
  c.vocab_at = vocab_at_;
  c.version = figures_.version;
  c.loss_first = loss_first_;
  c.loss_mean = figures_.loss;
  c.ranks = {{rng_.state(), window_.books()}};
  c.vocab = vocab_.state();
  return c;
}

Status TrainLoop::resume() {
  if (Status s = restore(); !s) return s;
  append_audit("resumed " + std::to_string(figures_.steps) + "\n");
  give_back_freed_memory();
  return Status::ok();
}

Status TrainLoop::restore() {
  Result<Checkpoint> c = Status::not_found("no checkpoint yet");
  if (leads() && !options_.checkpoint_path.empty()) c = own_checkpoint();
  if (leads() && !c && c.status().code() != StatusCode::kNotFound) return c.status();
  if (!seams_.ranks) return c ? take_over(*c) : Status::ok();
  std::vector<std::byte> bytes;
  if (leads() && c) bytes = encode_checkpoint(*c);
  if (leads() && !c) {
    Checkpoint start = state();
    start.learner = seams_.learner.save();
    bytes = encode_checkpoint(start);
  }
  if (Status s = seams_.ranks->broadcast(bytes); !s) return s;
  c = decode_checkpoint(bytes, "rank 0's state");
  if (!c) return c.status();
  if (leads()) return take_over(*c);  // its own
  const Status s = load_weights(*c);
  return s ? take_over(*c) : s;
}

// not_found: none, or none to go on from. That is set aside, for a person to look at; training
// that stood still until then would be worse.
Result<Checkpoint> TrainLoop::own_checkpoint() {
  const std::string& path = options_.checkpoint_path;
  auto c = read_checkpoint(path);
  const Status usable = c ? load_weights(*c) : c.status();
  if (usable || usable.code() == StatusCode::kNotFound || usable.code() == StatusCode::kIo)
    return usable ? std::move(c) : Result<Checkpoint>(usable);
  LOG_ERROR("train", "%s; it is kept as %s.bad and training begins anew",
            usable.to_string().c_str(), path.c_str());
  if (std::rename(path.c_str(), (path + ".bad").c_str()) != 0)
    return Status::io("cannot rename " + path);
  return Status::not_found("set aside");
}

Status TrainLoop::load_weights(const Checkpoint& c) {
  if (c.target != options_.target)
    return Status::invalid(options_.checkpoint_path + " was trained for another target model");
  const Status s = seams_.learner.load(c.learner.arrays.front());
  return s ? s : Status(s.code(), options_.checkpoint_path + ": " + s.message());
}

// All but the weights.
Status TrainLoop::take_over(const Checkpoint& c) {
  RankBooks own = books_of_rank(c, rank_, ranks_count_);
  uint64_t seen = 0;
  for (const RankBooks& of_rank : c.ranks) seen += of_rank.window.seen;
  others_seen_ = seen - own.window.seen;
  auto books = reread(std::move(own.window), c.cursor);
  if (!books) return books.status();
  window_.restore(std::move(*books));
  vocab_.restore(c.vocab);
  rng_ = SmallRng(own.rng);
  cursor_ = c.cursor;
  offered_at_ = c.offered_at;
  vocab_at_ = c.vocab_at;
  loss_first_ = c.loss_first;
  steps_at_offer_ = figures_.steps = c.steps;
  if (c.steps >= 20) guard_.start_from(c.loss_first);
  figures_.trained_tokens = c.trained_tokens;
  figures_.version = c.version;
  figures_.loss = c.loss_mean;
  LOG_INFO("train", "resumed at step %llu, record %llu, draft %lld",
           static_cast<unsigned long long>(c.steps), static_cast<unsigned long long>(cursor_),
           static_cast<long long>(c.version));
  return Status::ok();
}

// The records the books speak of, from the buffer. What it has dropped since is gone from the
// window, no more.
Result<Window::Books> TrainLoop::reread(Window::Books books, uint64_t cursor) {
  std::unordered_map<uint64_t, std::vector<WindowEntry*>> wanted;
  uint64_t first = cursor + 1;
  for (WindowEntry& e : books.entries) {
    wanted[e.sequence].push_back(&e);
    first = std::min(first, e.sequence);
  }
  for (uint64_t after = first - 1; after < cursor;) {
    auto batch = seams_.buffer.read(after, kReadRecords, kReadBytes);
    if (!batch) return batch.status();
    if (batch->empty()) break;
    after = batch->back().sequence;
    for (StoredRecord& stored : *batch) {
      const auto it = wanted.find(stored.sequence);
      // Same number, other record: the buffer was replaced; its records are new ones.
      if (it == wanted.end() || it->second.front()->id != stored.record.id) continue;
      if (!options_.branches) drop_branches(stored.record);
      if (!usable(stored)) continue;
      for (WindowEntry* e : it->second)
        e->record = segment_of(stored.record, e->segment, options_.window.segments);
    }
  }
  return books;
}

}  // namespace aurora
