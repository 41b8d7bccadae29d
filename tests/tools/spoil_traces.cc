// aurora-spoil-traces TRACES_DIR: the newest record once more, as another request, with states that
// are infinite. No server may be up beside it: a buffer has one writer.
#include <algorithm>
#include <cstdio>

#include "trace/trace_buffer.h"

namespace {

int fail(const aurora::Status& status) {
  std::fprintf(stderr, "aurora-spoil-traces: %s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: aurora-spoil-traces TRACES_DIR\n");
    return 1;
  }
  constexpr uint16_t kInfinity = 0x7c00;  // fp16
  aurora::TraceBufferOptions options;
  options.dir = argv[1];
  auto buffer = aurora::open_lmdb_buffer(options);
  if (!buffer) return fail(buffer.status());
  const auto stats = (*buffer)->stats();
  if (!stats) return fail(stats.status());
  auto last = (*buffer)->read(stats->last_sequence - 1, 1, aurora::kRecordBytesMax);
  if (!last) return fail(last.status());
  if (last->empty()) return fail(aurora::Status::not_found("there is no record"));
  aurora::TraceRecord record = std::move(last->front().record);
  record.id += uint64_t{1} << 32;
  std::fill(record.taps.begin(), record.taps.end(), kInfinity);
  const auto appended = (*buffer)->append(record);
  return appended ? 0 : fail(appended.status());
}
