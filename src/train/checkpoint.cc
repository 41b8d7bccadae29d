#include "train/checkpoint.h"

#include <string_view>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/files.h"

namespace aurora {
namespace {

constexpr std::string_view kMagic = "AURTRAIN";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 8 + 4 + 8 + 4;
constexpr size_t kFileBytesMax = 16ull << 30;

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
  }
}

Window::Books get_window(ByteReader& in) {
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
    books.entries.push_back(std::move(e));
  }
  return books;
}

std::vector<std::byte> encode_body(const Checkpoint& c) {
  ByteWriter out;
  out.reserve(c.learner.size() + c.vocab.size() * 8 + c.window.entries.size() * 21 + 4096);
  put_string(out, c.target);
  for (uint64_t value : {c.cursor, c.rng, c.steps, c.trained_tokens, c.offered_at}) out.put(value);
  out.put(c.version);
  out.put(c.loss_first);
  out.put(c.loss_mean);
  put_window(out, c.window);
  out.put<uint64_t>(c.vocab.size());
  for (const auto& [id, weight] : c.vocab) {
    out.put(id);
    out.put(weight);
  }
  out.put<uint64_t>(c.learner.size());
  out.put_bytes({reinterpret_cast<const char*>(c.learner.data()), c.learner.size()});
  return std::move(out).take();
}

Result<Checkpoint> decode_body(std::span<const std::byte> body, const std::string& path) {
  ByteReader in(body);
  Checkpoint c;
  c.target = in.get_string(in.get<uint32_t>());
  for (uint64_t* value : {&c.cursor, &c.rng, &c.steps, &c.trained_tokens, &c.offered_at})
    *value = in.get<uint64_t>();
  c.version = in.get<int64_t>();
  c.loss_first = in.get<double>();
  c.loss_mean = in.get<double>();
  c.window = get_window(in);
  const auto vocab = in.get<uint64_t>();
  for (uint64_t i = 0; i < vocab && in.ok(); ++i) {
    const auto id = in.get<int32_t>();
    c.vocab.emplace_back(id, in.get<float>());
  }
  const auto learner = in.get<uint64_t>();
  if (!in.ok() || in.remaining() != learner)
    return Status::corrupt(path + ": checkpoint body ends in the wrong place");
  c.learner.assign(body.end() - static_cast<ptrdiff_t>(learner), body.end());
  return c;
}

}  // namespace

Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  const std::vector<std::byte> body = encode_body(checkpoint);
  ByteWriter out;
  out.reserve(kHeaderBytes + body.size());
  out.put_bytes(kMagic);
  out.put(kVersion);
  out.put<uint64_t>(body.size());
  out.put(crc32c(body));
  out.put_bytes({reinterpret_cast<const char*>(body.data()), body.size()});
  return write_file_atomically(
      path, {reinterpret_cast<const char*>(out.bytes().data()), out.bytes().size()});
}

Result<Checkpoint> read_checkpoint(const std::string& path) {
  auto file = read_file(path, kFileBytesMax);
  if (!file) return file.status();
  const auto bytes = std::as_bytes(std::span(*file));
  ByteReader in(bytes);
  if (in.get_string(kMagic.size()) != kMagic)
    return Status::invalid(path + ": not a checkpoint of aurora-train");
  const auto version = in.get<uint32_t>();
  if (version != kVersion)
    return Status::invalid(path + ": checkpoint version " + std::to_string(version) +
                           ", this program reads " + std::to_string(kVersion));
  const auto length = in.get<uint64_t>();
  const auto crc = in.get<uint32_t>();
  if (!in.ok() || in.remaining() != length)
    return Status::truncated(path + ": checkpoint is cut off");
  const auto body = bytes.subspan(kHeaderBytes);
  if (crc32c(body) != crc) return Status::corrupt(path + ": checkpoint checksum");
  return decode_body(body, path);
}

}  // namespace aurora
