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
    kHeadBytes + 8 + TryNote::kTriedMax * 8 + TryNote::kSuspectsMax * 12;

}  // namespace

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
  tried_ = in.get_vector<uint64_t>(in.get<uint32_t>());
  const auto count = in.get<uint32_t>();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    const auto id = in.get<uint64_t>();
    suspects_.push_back({id, in.get<int32_t>()});
  }
  return in.ok();
}

void TryNote::count_deaths() {
  if (tried_.empty()) return;
  for (const uint64_t id : tried_) {
    const auto at = std::find_if(suspects_.begin(), suspects_.end(),
                                 [id](const Suspect& s) { return s.id == id; });
    if (at == suspects_.end()) suspects_.push_back({id, 1});
    else if (++at->deaths == kDeathsMax)
      LOG_ERROR("train", "the trainer has died %d times of record %016llx: left out for good",
                kDeathsMax, static_cast<unsigned long long>(id));
  }
  LOG_WARN("train", "the last run died while it tried %zu records: each is tried alone",
           tried_.size());
  if (suspects_.size() > kSuspectsMax)
    suspects_.erase(suspects_.begin(), suspects_.end() - kSuspectsMax);
  tried_.clear();
  write();
}

void TryNote::begin(std::span<const uint64_t> ids) {
  if (!file_.is_open()) return;
  tried_.assign(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(std::min(ids.size(), kTriedMax)));
  write();
}

void TryNote::end() {
  if (tried_.empty()) return;
  if (tried_.size() == 1 && !poison(tried_[0]))
    std::erase_if(suspects_, [this](const Suspect& s) { return s.id == tried_[0]; });
  tried_.clear();
  write();
}

void TryNote::write() const {
  ByteWriter out;
  out.put_bytes(kMagic);
  out.put<uint32_t>(0);  // checksum and length, below
  out.put<uint32_t>(0);
  out.put(static_cast<uint32_t>(tried_.size()));
  out.put_span<uint64_t>(tried_);
  out.put(static_cast<uint32_t>(suspects_.size()));
  for (const Suspect& s : suspects_) {
    out.put(s.id);
    out.put(s.deaths);
  }
  out.patch(kMagic.size(), crc32c(out.bytes().subspan(kHeadBytes)));
  out.patch(kMagic.size() + 4, static_cast<uint32_t>(out.size() - kHeadBytes));
  // A note that is not written costs a start more, no lesson.
  [[maybe_unused]] const ssize_t ignored = ::pwrite(file_.get(), out.bytes().data(), out.size(), 0);
}

const TryNote::Suspect* TryNote::find(uint64_t id) const {
  for (const Suspect& s : suspects_)
    if (s.id == id) return &s;
  return nullptr;
}

bool TryNote::suspect(uint64_t id) const { return find(id) != nullptr; }

bool TryNote::poison(uint64_t id) const {
  const Suspect* found = find(id);
  return found != nullptr && found->deaths >= kDeathsMax;
}

}  // namespace aurora
