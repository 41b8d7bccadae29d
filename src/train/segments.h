// A record cut into pieces that a training step can afford: attention takes columns x rows, and
// nothing bounds an answer. Pieces are records themselves, less what pack() never reads.
#pragma once

#include <cstdint>

#include "trace/record.h"

namespace aurora {

struct SegmentOptions {
  int tokens_max = 512;         // served tokens of a segment, at least 2
  int context_rows_max = 1024;  // rows before its first supervised one, as in PackOptions
};

// At least 1. Segments are of even length; neighbours share one served token, so that every column
// of the record is supervised in one of them. A segment's last columns lack the labels of later
// steps, as an answer's do.
int segment_count(const TraceRecord& record, const SegmentOptions& options);

// False: the only segment is the record as it is.
bool needs_cut(const TraceRecord& record, const SegmentOptions& options);

// segment < segment_count(). Copies what it keeps. A verify step belongs to the segment that serves
// its first token; what it refused behind the segment's end is left out.
TraceRecord cut_segment(const TraceRecord& record, int segment, const SegmentOptions& options);

// What a cut segment takes at most (record_bytes() of it), by arithmetic; refused rows not counted.
uint64_t segment_bytes_max(const TraceRecord& record, const SegmentOptions& options);

}  // namespace aurora
