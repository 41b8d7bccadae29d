#include "cli/child_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/line_writer.h"
#include "base/log.h"

namespace aurora {
namespace {
constexpr int kPiecesAtOnce = 256;
}  // namespace

// The child's end waits where its pipe is full: it is read ten times a second.
ChildLog::ChildLog() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  read_end_ = FileHandle(ends[0]);
  write_end_ = FileHandle(ends[1]);
  ::fcntl(read_end_.get(), F_SETFL, O_NONBLOCK);
}

void ChildLog::read_some() {
  char piece[4096];
  for (int i = 0; i < kPiecesAtOnce && read_end_.is_open(); ++i) {
    const ssize_t got = ::read(read_end_.get(), piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    take(piece, static_cast<size_t>(got));
  }
}

void ChildLog::read_rest() {
  read_some();
  if (!line_.empty()) end_line();
}

void ChildLog::take(const char* text, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (text[i] == '\n' || line_.size() + 1 >= LineWriter::kLineBytes) end_line();
    if (text[i] != '\n') line_ += text[i];
  }
}

void ChildLog::end_line() {
  log_verbatim(line_);
  if (line_.find_first_not_of(" \t\r") != std::string::npos) last_line_ = line_;
  line_.clear();
}

}  // namespace aurora
