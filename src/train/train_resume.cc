// TrainLoop's checkpoint, written by rank 0 for all ranks, and the way back from it.
#include <algorithm>
#include <unordered_map>

#include "base/clock.h"
#include "base/log.h"
#include "train/heap.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr const char* kConsumer = "trainer";
constexpr size_t kReadRecords = 16;
constexpr size_t kReadBytes = 64u << 20;

}  // namespace

// Rank 0 decides, for all.
Status TrainLoop::checkpoint_if(bool due) {
  const auto all = any_rank(seams_.ranks, leads() && due);
  if (!all) return all.status();
  return *all ? checkpoint() : Status::ok();
}

Status TrainLoop::checkpoint() {
  checkpoint_us_ = steady_us();
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
  return seams_.buffer.acknowledge(kConsumer, cursor_);
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
  if (leads() && !options_.checkpoint_path.empty()) c = read_checkpoint(options_.checkpoint_path);
  if (leads() && !c && c.status().code() != StatusCode::kNotFound) return c.status();
  if (!seams_.ranks) return c ? restore(*c) : Status::ok();
  std::vector<std::byte> bytes;
  if (leads() && c) bytes = encode_checkpoint(*c);
  if (leads() && !c) {
    Checkpoint start = state();
    start.learner = seams_.learner.save();
    bytes = encode_checkpoint(start);
  }
  if (Status s = seams_.ranks->broadcast(bytes); !s) return s;
  c = decode_checkpoint(bytes, "rank 0's state");
  return c ? restore(*c) : c.status();
}

Status TrainLoop::restore(const Checkpoint& c) {
  if (c.target != options_.target)
    return Status::invalid(options_.checkpoint_path +
                           " was trained for another target model: use another --state directory");
  if (Status s = seams_.learner.load(c.learner.arrays.front()); !s)
    return Status(s.code(), options_.checkpoint_path + ": " + s.message());
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
  // A kill between writing the checkpoint and acknowledging left the cursor behind.
  return leads() ? seams_.buffer.acknowledge(kConsumer, cursor_) : Status::ok();
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
