// JetStream's API over plain requests: streams, confirmed publishes, fetches by sequence. Written
// against nats-server 2.11 and later, whose fetch of many messages in one request and lifetime of a
// single message the client library of Debian 12 does not know. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nats/connection.h"

namespace aurora {

struct StreamConfig {
  std::string name;
  std::string subjects;          // one, with wildcards
  uint64_t bytes_max = 0;        // the oldest are removed beyond; 0: no bound
  int64_t age_s = 0;             // 0: no bound; else 120 or more, the broker's duplicate window
  uint64_t per_subject_max = 0;  // the last so many of each subject stay; 0: all
  int replicas = 1;
};

// Makes the stream. Where it is there already: `adjust` gives it these bounds, otherwise it stays
// as it is. invalid: the broker says no, or is too old.
Status ensure_stream(NatsConnection& connection, const StreamConfig& config, bool adjust);

struct StreamState {
  uint64_t messages = 0;  // on `subject`
  uint64_t bytes = 0;     // as the broker counts them, of the whole stream
  uint64_t first_sequence = 0, last_sequence = 0;
};
// not_found: no such stream.
Result<StreamState> stream_state(NatsConnection& connection, const std::string& stream,
                                 const std::string& subject);

struct StoredMessage {
  uint64_t sequence = 0;
  NatsMessage message;
  uint64_t later = 0;  // by fetch() alone: messages on the subject behind this one
};

struct FetchRequest {
  std::string stream;
  std::string subject;
  uint64_t first = 1;  // sequence
  size_t count = 1;
  size_t bytes_max = 0;  // about; one message comes whatever its size
};
// In order, from any replica: one that lags gives less. Empty: none at or after `first`.
Result<std::vector<StoredMessage>> fetch(NatsConnection& connection, const FetchRequest& request);
// By sequence; those that are gone are left out.
Result<std::vector<StoredMessage>> fetch_each(NatsConnection& connection, const std::string& stream,
                                              const std::vector<uint64_t>& sequences);
// not_found: none on that subject.
Result<StoredMessage> fetch_last(NatsConnection& connection, const std::string& stream,
                                 const std::string& subject);

// What a broker answers to a publish.
struct PublishAnswer {
  uint64_t sequence = 0;
  int code = 0;  // 0: stored; 409 or 5xx: try again; else refused
  int error = 0;
  std::string reason;

  // The same message was sent before and is being written: seen where replicas are slow.
  bool still_in_process() const { return code == 409; }
};
PublishAnswer parse_publish_answer(const NatsMessage& message);

// Waits until the broker has stored it: its sequence. exists: "Nats-Expected-..." did not hold.
Result<uint64_t> publish_confirmed(NatsConnection& connection, const NatsOutgoing& message);

}  // namespace aurora
