// Recorded traces, for runs without a server: the records of trace buffers, shown bit by bit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trace/trace_buffer.h"

namespace aurora {

// Buffers one behind the other, under rising sequence numbers; rollouts stand behind the request
// whose prompt they answer, whenever they were made, and are left out where it is missing. Takes no
// record and removes nothing: the recording stays as it is. One thread.
class Recording final : public TraceBuffer {
 public:
  // dirs: of LMDB buffers. Reads everything once.
  static Result<std::unique_ptr<Recording>> open(const std::vector<std::string>& dirs);

  // From now on only these domains, one behind the other, each in its own order and so many
  // requests at most, rollouts not counted. invalid: a domain without a record.
  Status sort_by_domain(const std::vector<std::string>& domains, size_t requests_max);

  // read() shows records up to this one; at first none.
  void release(uint64_t up_to) { up_to_ = up_to; }

  // As read(), whether released or not.
  Result<std::vector<StoredRecord>> next(uint64_t after, size_t count, size_t bytes_max);

  Result<uint64_t> append(const TraceRecord&) override {
    return Status::invalid("a recording is read only");
  }
  Result<std::vector<StoredRecord>> read(uint64_t after, size_t count, size_t bytes_max) override;
  Status remove_expired(int64_t) override { return Status::ok(); }
  Result<TraceBufferStats> stats() override;  // last_sequence alone: of what is released

 private:
  struct Part {
    std::unique_ptr<TraceBuffer> buffer;
    uint64_t before, end;  // sequence numbers before + 1 ... end
  };

  struct Request {
    uint64_t sequence = 0;
    std::string domain;
    std::vector<uint64_t> rollouts;  // their sequence numbers
  };

  Status scan();
  void set_order(const std::vector<const Request*>& requests);
  Result<std::vector<StoredRecord>> as_recorded(uint64_t after, size_t count, size_t bytes_max);

  std::vector<Part> parts_;
  std::vector<Request> requests_;  // of users, as recorded
  std::vector<uint64_t> order_;
  uint64_t up_to_ = 0;
};

}  // namespace aurora
