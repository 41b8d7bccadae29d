#include "train/try_note.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"

namespace aurora {
namespace {

// Magic, checksum and length of what follows, then the two lists.
constexpr std::string_view kMagic = "AURTRY1\n";
constexpr size_t kHeadBytes = 8 + 4 + 4;
constexpr size_t kFileBytesMax =
    kHeadBytes + 8 + TryNote::kTriedMax * 16 + TryNote::kSuspectsMax * 20;

void put_piece(ByteWriter& out, const Piece& piece) {
  out.put(piece.id);
  out.put(piece.first);
}

Piece get_piece(ByteReader& in) {
  const auto id = in.get<uint64_t>();
  return {id, in.get<int64_t>()};
}

}  // namespace

Piece piece_of(const TraceRecord& record) {
  return {record.id, int64_t{record.cut_before} + record.prompt_tokens};
}

TryNote::TryNote(const std::string& path) {
  if (path.empty()) return;
  file_ = FileHandle(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file_.is_open()) {
    LOG_WARN("train", "cannot open %s: %s", path.c_str(), std::strerror(errno));
    return;
  }
  if (!read()) {
    tried_.clear();
    suspects_.clear();
    return;
  }
  count_deaths();
}

// False: nothing there, or half a note.
bool TryNote::read() {
  std::vector<std::byte> bytes(kFileBytesMax);
  const ssize_t got = ::pread(file_.get(), bytes.data(), bytes.size(), 0);
  if (got < static_cast<ssize_t>(kHeadBytes)) return false;
  ByteReader in(std::span<const std::byte>(bytes).first(static_cast<size_t>(got)));
  if (in.get_string(kMagic.size()) != kMagic) return false;
  const auto crc = in.get<uint32_t>(), length = in.get<uint32_t>();
  if (length > in.remaining()) return false;
  if (crc32c(std::span<const std::byte>(bytes).subspan(kHeadBytes, length)) != crc) return false;
  const auto tried = in.get<uint32_t>();
  for (uint32_t i = 0; i < tried && in.ok(); ++i) tried_.push_back(get_piece(in));
  const auto suspects = in.get<uint32_t>();
  for (uint32_t i = 0; i < suspects && in.ok(); ++i) {
    const Piece piece = get_piece(in);
    suspects_.push_back({piece, in.get<int32_t>()});
  }
  return in.ok();
}

void TryNote::count_deaths() {
  if (tried_.empty()) return;
  for (const Piece& piece : tried_) {
    const auto at = std::find_if(suspects_.begin(), suspects_.end(),
                                 [&piece](const Suspect& s) { return s.piece == piece; });
    if (at == suspects_.end()) suspects_.push_back({piece, 1});
    else if (++at->deaths == kDeathsMax)
      LOG_ERROR("train", "the trainer has died %d times of record %016llx: left out for good",
                kDeathsMax, static_cast<unsigned long long>(piece.id));
  }
  LOG_WARN("train", "the last run died while it tried %zu records: each is tried alone",
           tried_.size());
  if (suspects_.size() > kSuspectsMax)
    suspects_.erase(suspects_.begin(), suspects_.end() - kSuspectsMax);
  tried_.clear();
  write();
}

void TryNote::begin(std::span<const Piece> pieces) {
  if (!file_.is_open()) return;
  const auto noted = pieces.first(std::min(pieces.size(), kTriedMax));
  tried_.assign(noted.begin(), noted.end());
  write();
}

void TryNote::end() {
  if (tried_.empty()) return;
  if (tried_.size() == 1 && !poison(tried_[0].id))
    std::erase_if(suspects_, [this](const Suspect& s) { return s.piece == tried_[0]; });
  tried_.clear();
  write();
}

void TryNote::write() const {
  ByteWriter out;
  out.put_bytes(kMagic);
  out.put<uint32_t>(0);  // checksum and length, below
  out.put<uint32_t>(0);
  out.put(static_cast<uint32_t>(tried_.size()));
  for (const Piece& piece : tried_) put_piece(out, piece);
  out.put(static_cast<uint32_t>(suspects_.size()));
  for (const Suspect& s : suspects_) {
    put_piece(out, s.piece);
    out.put(s.deaths);
  }
  out.patch(kMagic.size(), crc32c(out.bytes().subspan(kHeadBytes)));
  out.patch(kMagic.size() + 4, static_cast<uint32_t>(out.size() - kHeadBytes));
  // A note that is not written costs a start more, no lesson.
  [[maybe_unused]] const ssize_t ignored = ::pwrite(file_.get(), out.bytes().data(), out.size(), 0);
}

bool TryNote::suspect(const Piece& piece) const {
  return std::any_of(suspects_.begin(), suspects_.end(),
                     [&piece](const Suspect& s) { return s.piece == piece; });
}

bool TryNote::poison(uint64_t id) const {
  return std::any_of(suspects_.begin(), suspects_.end(),
                     [id](const Suspect& s) { return s.piece.id == id && s.deaths >= kDeathsMax; });
}

}  // namespace aurora
