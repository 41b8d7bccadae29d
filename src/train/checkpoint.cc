#include "train/checkpoint.h"

#include <algorithm>
#include <string_view>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/files.h"
#include "base/mapped_file.h"
#include "train/rank_group.h"

namespace aurora {
namespace {

constexpr std::string_view kMagic = "AURTRAIN";
constexpr uint32_t kVersionOneRank = 1, kVersionRanks = 2, kVersionSegments = 3;
constexpr size_t kHeaderBytes = 8 + 4 + 8 + 4;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void put_string(ByteWriter& out, const std::string& text) {
  out.put<uint32_t>(static_cast<uint32_t>(text.size()));
  out.put_bytes(text);
}

void put_window(ByteWriter& out, const Window::Books& books) {
  out.put(books.seen);
  out.put(books.passes_total);
  out.put(books.retired);
  out.put<uint64_t>(books.entries.size());
  for (const WindowEntry& e : books.entries) {
    out.put(e.sequence);
    out.put(e.id);
    out.put(e.passes);
    out.put(static_cast<uint8_t>(e.place));
    out.put(e.segment);
  }
}

Window::Books get_window(ByteReader& in, uint32_t version) {
  Window::Books books;
  books.seen = in.get<uint64_t>();
  books.passes_total = in.get<uint64_t>();
  books.retired = in.get<uint64_t>();
  const auto count = in.get<uint64_t>();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    WindowEntry e;
    e.sequence = in.get<uint64_t>();
    e.id = in.get<uint64_t>();
    e.passes = in.get<int32_t>();
    const auto place = in.get<uint8_t>();
    if (place > static_cast<uint8_t>(Place::kHoldout)) in.fail();
    e.place = static_cast<Place>(place);
    if (version >= kVersionSegments) e.segment = in.get<uint32_t>();
    books.entries.push_back(std::move(e));
  }
  return books;
}

void put_body(ByteWriter& out, const Checkpoint& c) {
  put_string(out, c.target);
  for (uint64_t value :
       {c.cursor, c.ranks[0].rng, c.steps, c.trained_tokens, c.offered_at, c.vocab_at})
    out.put(value);
  out.put(c.version);
  out.put(c.loss_first);
  out.put(c.loss_mean);
  put_window(out, c.ranks[0].window);
  out.put<uint64_t>(c.vocab.size());
  for (const auto& [id, weight] : c.vocab) {
    out.put(id);
    out.put(weight);
  }
  out.put<uint64_t>(c.ranks.size());
  for (size_t i = 1; i < c.ranks.size(); ++i) {
    out.put(c.ranks[i].rng);
    put_window(out, c.ranks[i].window);
  }
  out.put<uint64_t>(c.learner.bytes());
}

// All but the learner's bytes, which its length and checksum tell of.
std::vector<std::byte> encode_before_learner(const Checkpoint& c) {
  ByteWriter out;
  out.put_bytes(kMagic);
  out.put(kVersionSegments);
  out.put<uint64_t>(0);  // length and checksum, below
  out.put<uint32_t>(0);
  put_body(out, c);
  const auto body = out.bytes().subspan(kHeaderBytes);
  uint32_t crc = crc32c(c.learner.head, crc32c(body));
  for (const auto& array : c.learner.arrays) crc = crc32c(array, crc);
  out.patch<uint64_t>(kHeaderBytes - 12, body.size() + c.learner.bytes());
  out.patch(kHeaderBytes - 4, crc);
  return std::move(out).take();
}

Result<Checkpoint> decode_body(std::span<const std::byte> body, uint32_t version,
                               const std::string& origin) {
  ByteReader in(body);
  Checkpoint c;
  c.target = in.get_string(in.get<uint32_t>());
  for (uint64_t* value : {&c.cursor, &c.ranks[0].rng, &c.steps, &c.trained_tokens, &c.offered_at})
    *value = in.get<uint64_t>();
  if (version >= kVersionSegments) c.vocab_at = in.get<uint64_t>();
  c.version = in.get<int64_t>();
  c.loss_first = in.get<double>();
  c.loss_mean = in.get<double>();
  c.ranks[0].window = get_window(in, version);
  const auto vocab = in.get<uint64_t>();
  for (uint64_t i = 0; i < vocab && in.ok(); ++i) {
    const auto id = in.get<int32_t>();
    c.vocab.emplace_back(id, in.get<float>());
  }
  const auto ranks = version == kVersionOneRank ? 1 : in.get<uint64_t>();
  for (uint64_t i = 1; i < ranks && in.ok(); ++i) {
    const auto rng = in.get<uint64_t>();
    c.ranks.push_back({rng, get_window(in, version)});
  }
  for (const RankBooks& of_rank : c.ranks)
    if (version < kVersionSegments) c.vocab_at += of_rank.window.seen;
  const auto learner = in.get<uint64_t>();
  if (!in.ok() || in.remaining() != learner)
    return Status::corrupt(origin + ": checkpoint body ends in the wrong place");
  c.learner.arrays = {body.last(learner)};
  return c;
}

}  // namespace

std::vector<std::byte> encode_checkpoint(const Checkpoint& c) {
  std::vector<std::byte> bytes = encode_before_learner(c);
  const std::vector<std::byte> learner = c.learner.joined();
  bytes.insert(bytes.end(), learner.begin(), learner.end());
  return bytes;
}

Result<Checkpoint> decode_checkpoint(std::span<const std::byte> bytes, const std::string& origin) {
  ByteReader in(bytes);
  if (in.get_string(kMagic.size()) != kMagic)
    return Status::invalid(origin + ": not a checkpoint of aurora-train");
  const auto version = in.get<uint32_t>();
  if (version < kVersionOneRank || version > kVersionSegments)
    return Status::invalid(origin + ": checkpoint version " + std::to_string(version) +
                           ", this program reads " + std::to_string(kVersionSegments) +
                           " and older ones");
  const auto length = in.get<uint64_t>();
  const auto crc = in.get<uint32_t>();
  if (!in.ok() || in.remaining() != length)
    return Status::truncated(origin + ": checkpoint is cut off");
  const auto body = bytes.subspan(kHeaderBytes);
  if (crc32c(body) != crc) return Status::corrupt(origin + ": checkpoint checksum");
  return decode_body(body, version, origin);
}

RankBooks books_of_rank(const Checkpoint& checkpoint, int rank, int size) {
  const auto at = static_cast<size_t>(rank), count = static_cast<size_t>(size);
  if (checkpoint.ranks.size() == count) return checkpoint.ranks[at];
  RankBooks share;
  share.rng = checkpoint.ranks[at % checkpoint.ranks.size()].rng + at;
  for (const RankBooks& of_rank : checkpoint.ranks) {
    share.window.seen += of_rank.window.seen;
    share.window.passes_total += of_rank.window.passes_total;
    share.window.retired += of_rank.window.retired;
    for (const WindowEntry& e : of_rank.window.entries)
      if (owner_rank(e.id, size) == rank) share.window.entries.push_back(e);
  }
  // The sums stay what they were: rank 0 takes what does not divide.
  for (uint64_t* sum : {&share.window.seen, &share.window.passes_total, &share.window.retired})
    *sum = *sum / count + (at == 0 ? *sum % count : 0);
  // Recent records retire in the order in which they came.
  std::stable_sort(
      share.window.entries.begin(), share.window.entries.end(),
      [](const WindowEntry& a, const WindowEntry& b) { return a.sequence < b.sequence; });
  return share;
}

Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  const std::vector<std::byte> before = encode_before_learner(checkpoint);
  std::vector<std::string_view> parts = {as_text(before), as_text(checkpoint.learner.head)};
  for (const auto& array : checkpoint.learner.arrays) parts.push_back(as_text(array));
  return write_file_atomically(path, parts);
}

Result<Checkpoint> read_checkpoint(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.status();
  auto checkpoint = decode_checkpoint((*file)->bytes(), path);
  if (checkpoint) checkpoint->bytes = *file;
  return checkpoint;
}

}  // namespace aurora
