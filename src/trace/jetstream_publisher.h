// Sends records to the stream from a thread of its own, and keeps each until the broker has
// confirmed it. What waits is bounded in bytes; beyond, offer() says no at once. A record that the
// broker did not answer for is sent again under the same name, which the broker stores once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nats/connection.h"
#include "nats/jetstream.h"

namespace aurora {

class JetStreamPublisher {
 public:
  // `prepare` makes the stream; called on the publisher's thread before it first sends, and again
  // when nobody serves the stream. The connection outlives the publisher.
  JetStreamPublisher(NatsConnection& connection, std::function<Status()> prepare);
  ~JetStreamPublisher();  // two seconds for what waits, where a broker answers; the rest is refused

  // Thread-safe, never waits for a broker. unavailable: too much waits already; full: the record
  // alone is more than may wait.
  Status offer(uint64_t id, int64_t expires_ms, std::vector<std::byte> record);
  // unavailable: some record is not confirmed after `wait_ms`.
  Status flush(int64_t wait_ms);
  uint64_t refused() const { return refused_; }  // taken by offer() and never stored

 private:
  struct Flight {
    uint64_t id = 0;
    int64_t expires_ms = 0;
    std::vector<std::byte> bytes;
    std::vector<uint64_t> sequences;  // of each message, 0: not confirmed
    std::vector<int64_t> sent_us;     // of each message, 0: not sent, or to be sent again
    size_t confirmed = 0;
  };

  void run();
  bool round();
  bool take_new();
  Status make_ready();
  Status open_answers();
  bool send_due();
  size_t message_bytes(const Flight& flight, size_t message) const;
  Status send(uint64_t number, Flight& flight, size_t message);
  void receive(int64_t wait_ms);
  void note_answer(const NatsMessage& message);
  void send_all_again();
  void start_over();
  void complain(const std::string& what);
  void finish(std::map<uint64_t, Flight>::iterator flight, bool stored);
  void wait(int64_t ms);
  void log_connection();

  NatsConnection& connection_;
  const std::function<Status()> prepare_;
  const std::string run_id_;  // in message names: two servers may draw the same record id

  // The publisher's thread.
  std::map<uint64_t, Flight> flights_;
  uint64_t next_number_ = 1;
  size_t piece_bytes_ = 0;
  size_t wire_bytes_ = 0;  // sent and not yet confirmed
  bool ready_ = false, was_connected_ = true;
  std::optional<NatsInbox> answers_;
  int64_t complained_us_ = 0;
  int64_t give_up_us_ = INT64_MAX;  // closing: until then

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Flight> queue_;  // guarded by mutex_, as are the next two
  size_t waiting_bytes_ = 0;  // queue and flights
  bool closing_ = false;

  std::atomic<uint64_t> refused_{0};
  std::thread thread_;
};

}  // namespace aurora
