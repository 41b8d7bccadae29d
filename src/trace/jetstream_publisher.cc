#include "trace/jetstream_publisher.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <random>

#include "base/clock.h"
#include "base/log.h"
#include "nats/preface.h"
#include "trace/answer_to.h"
#include "trace/jetstream_names.h"

namespace aurora {
namespace {

constexpr size_t kWireBytesMax = 8u << 20;     // a slow broker is not buried under all that waits
constexpr size_t kMessageBytesMax = 1u << 20;  // whatever larger payload the broker would take
constexpr size_t kHeaderRoomBytes = 1024;
constexpr int64_t kAnswerUsMax = 5'000'000;  // then it is sent again
constexpr int64_t kCloseUsMax = 2'000'000;
constexpr int64_t kComplainUs = 10'000'000;
constexpr int64_t kRetryMs = 250;

std::string new_run_id() {
  std::random_device random;
  char text[24];
  std::snprintf(text, sizeof text, "%08x%08x", random(), random());
  return text;
}

size_t pieces_of(size_t bytes, size_t piece_bytes) {
  return std::max<size_t>(1, (bytes + piece_bytes - 1) / piece_bytes);
}

}  // namespace

JetStreamPublisher::JetStreamPublisher(NatsConnection& connection, std::function<Status()> prepare)
    : connection_(connection),
      prepare_(std::move(prepare)),
      run_id_(new_run_id()),
      thread_([this] { run(); }) {}

JetStreamPublisher::~JetStreamPublisher() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status JetStreamPublisher::offer(uint64_t id, int64_t expires_ms, std::vector<std::byte> record) {
  const size_t bytes = record.size(), bytes_max = connection_.url().in_flight_bytes_max;
  if (bytes > bytes_max) {
    return Status::full("a record of " + std::to_string(bytes) +
                        " bytes is more than may wait for a broker; raise in_flight in the URL");
  }
  {
    const std::lock_guard lock(mutex_);
    if (waiting_bytes_ + bytes > bytes_max) {
      return Status::unavailable(
          "the brokers are slow or away: " + std::to_string(waiting_bytes_ >> 20) +
          " MiB of traces wait for them already");
    }
    waiting_bytes_ += bytes;
    Flight flight;
    flight.id = id;
    flight.expires_ms = expires_ms;
    flight.bytes = std::move(record);
    queue_.push_back(std::move(flight));
  }
  changed_.notify_all();
  return Status::ok();
}

Status JetStreamPublisher::flush(int64_t wait_ms) {
  std::unique_lock lock(mutex_);
  const bool all = changed_.wait_for(lock, std::chrono::milliseconds(wait_ms),
                                     [this] { return waiting_bytes_ == 0; });
  return all ? Status::ok()
             : Status::unavailable(std::to_string(waiting_bytes_) + " bytes are not confirmed");
}

// A step that throws (memory) loses what it was about, not the thread.
void JetStreamPublisher::run() {
  bool goes_on = true;
  while (goes_on) {
    try {
      goes_on = round();
    } catch (const std::exception& e) {
      complain(std::string("traces wait: ") + e.what());
      wait(kRetryMs);
    }
  }
  while (!flights_.empty()) finish(flights_.begin(), false);
}

// False: closing, and nothing is left to wait for.
bool JetStreamPublisher::round() {
  if (take_new() && give_up_us_ == INT64_MAX) give_up_us_ = steady_us() + kCloseUsMax;
  const bool closing = give_up_us_ != INT64_MAX;
  const bool connected = connection_.connected();
  log_connection();
  if (closing && (flights_.empty() || !connected || steady_us() > give_up_us_)) return false;
  if (flights_.empty() || !connected) {
    wait(connected ? 1000 : 50);
    return true;
  }
  if (Status status = make_ready(); !status) {
    complain("traces wait: " + status.to_string());
    wait(kRetryMs);
    return true;
  }
  const bool sent = send_due();
  receive(sent ? 1 : 10);
  return true;
}

// True when closing.
bool JetStreamPublisher::take_new() {
  const std::lock_guard lock(mutex_);
  for (; !queue_.empty(); queue_.pop_front()) {
    flights_.emplace(next_number_++, std::move(queue_.front()));
  }
  return closing_;
}

void JetStreamPublisher::wait(int64_t ms) {
  std::unique_lock lock(mutex_);
  const bool idle = flights_.empty();
  changed_.wait_for(lock, std::chrono::milliseconds(ms),
                    [&] { return closing_ || (idle && !queue_.empty()); });
}

void JetStreamPublisher::log_connection() {
  const bool now = connection_.connected();
  if (now == was_connected_) return;
  was_connected_ = now;
  if (now) LOG_INFO("trace", "a broker answers; traces go out");
  if (!now) LOG_WARN("trace", "no broker answers; traces wait, and are dropped beyond the bound");
  // What was on the way when the connection broke may have arrived or not.
  send_all_again();
}

Status JetStreamPublisher::make_ready() {
  if (!answers_) {
    if (Status status = open_answers(); !status) return status;
  }
  if (ready_) return Status::ok();
  const size_t payload = connection_.payload_max();
  if (payload <= 2 * kHeaderRoomBytes) {
    return Status::unavailable("the broker's max_payload of " + std::to_string(payload) +
                               " bytes is too small for traces");
  }
  if (Status status = prepare_(); !status) return status;
  // A record in flight keeps its pieces; half of the room of the last message is for their names.
  if (piece_bytes_ == 0)
    piece_bytes_ = (std::min(payload, kMessageBytesMax) - kHeaderRoomBytes) / 2;
  ready_ = true;
  return Status::ok();
}

Status JetStreamPublisher::open_answers() {
  Result<NatsInbox> answers = connection_.inbox();
  if (!answers) return answers.status();
  answers_.emplace(std::move(*answers));
  return Status::ok();
}

// The pieces of a record go out together; the message that names them goes when all are confirmed.
bool JetStreamPublisher::send_due() {
  bool sent = false;
  const int64_t now_us = steady_us();
  for (auto& [number, flight] : flights_) {
    if (wire_bytes_ >= kWireBytesMax) break;
    if (flight.sequences.empty()) {
      flight.sequences.resize(pieces_of(flight.bytes.size(), piece_bytes_));
      flight.sent_us.resize(flight.sequences.size());
    }
    const size_t last = flight.sequences.size() - 1;
    const size_t begin = flight.confirmed == last ? last : 0;
    const size_t end = flight.confirmed == last ? last + 1 : last;
    for (size_t i = begin; i < end && wire_bytes_ < kWireBytesMax; ++i) {
      if (flight.sequences[i] != 0) continue;
      if (flight.sent_us[i] != 0) {
        if (now_us - flight.sent_us[i] < kAnswerUsMax) continue;
        wire_bytes_ -= message_bytes(flight, i);
      }
      flight.sent_us[i] = 0;
      if (!send(number, flight, i)) return sent;  // the connection broke: seen in the next round
      flight.sent_us[i] = now_us;
      wire_bytes_ += message_bytes(flight, i);
      sent = true;
    }
  }
  return sent;
}

size_t JetStreamPublisher::message_bytes(const Flight& flight, size_t message) const {
  return std::min(piece_bytes_, flight.bytes.size() - message * piece_bytes_);
}

Status JetStreamPublisher::send(uint64_t number, Flight& flight, size_t message) {
  const bool last = message + 1 == flight.sequences.size();
  const size_t begin = message * piece_bytes_;
  std::span<const std::byte> data(flight.bytes);
  data = data.subspan(begin, message_bytes(flight, message));
  std::vector<std::byte> whole;
  if (last) {
    Preface preface{flight.bytes.size(), flight.expires_ms, flight.sequences};
    preface.pieces.pop_back();
    whole = with_preface(preface, data);
    data = whole;
  }
  const std::string& prefix = connection_.url().prefix;
  char name[96];
  std::snprintf(name, sizeof name, "%s-%016" PRIx64 "-%zu", run_id_.c_str(), flight.id, message);
  NatsOutgoing out{
      .subject = last ? record_subject(prefix) : piece_subject(prefix),
      .reply = answers_->subject() + "." + std::to_string(number) + "." + std::to_string(message),
      .headers = {{"Nats-Msg-Id", name}},
      .data = data};
  if (flight.expires_ms > 0) {
    const int64_t left_s = (flight.expires_ms - unix_ms() + 999) / 1000;
    out.headers.emplace_back("Nats-TTL", std::to_string(std::max<int64_t>(1, left_s)));
  }
  return connection_.publish(out);
}

void JetStreamPublisher::receive(int64_t wait_ms) {
  constexpr int kAtOnce = 256;  // then new records get their turn
  for (int i = 0; i < kAtOnce && !flights_.empty(); ++i) {
    Result<std::optional<NatsMessage>> message = answers_->next(i == 0 ? wait_ms : 1);
    if (!message) {
      answers_.reset();  // it may belong to a connection that was given up
      start_over();
      return;
    }
    if (!message->has_value()) return;
    note_answer(**message);
    if (!ready_) return;  // it has waited once for all of these
  }
}

void JetStreamPublisher::note_answer(const NatsMessage& message) {
  const auto answers = answer_to(message.subject(), answers_->subject());
  if (!answers) return;
  const size_t index = answers->message;
  const auto at = flights_.find(answers->flight);
  if (at == flights_.end() || index >= at->second.sequences.size()) return;
  Flight& flight = at->second;
  if (flight.sequences[index] != 0) return;  // the answer to the first of two sendings
  const PublishAnswer answer = parse_publish_answer(message);
  if (answer.still_in_process()) return;  // the first sending; its answer or the next try decides
  if (answer.code >= 500) {
    start_over();
    return;
  }
  if (answer.code != 0) {
    complain("the broker refuses a trace: " + answer.reason);
    return finish(at, false);
  }
  if (flight.sent_us[index] != 0) wire_bytes_ -= message_bytes(flight, index);
  flight.sequences[index] = answer.sequence;
  if (++flight.confirmed == flight.sequences.size()) finish(at, true);
}

void JetStreamPublisher::send_all_again() {
  for (auto& [number, flight] : flights_) {
    for (int64_t& sent_us : flight.sent_us) sent_us = 0;
  }
  wire_bytes_ = 0;
}

// Nobody serves the stream: a broker that starts, an election, or a stream that was deleted.
void JetStreamPublisher::start_over() {
  ready_ = false;
  send_all_again();
  wait(kRetryMs);
}

// Not more often than a log can bear.
void JetStreamPublisher::complain(const std::string& what) {
  if (steady_us() - complained_us_ <= kComplainUs) return;
  complained_us_ = steady_us();
  LOG_WARN("trace", "%s", what.c_str());
}

void JetStreamPublisher::finish(std::map<uint64_t, Flight>::iterator flight, bool stored) {
  const size_t bytes = flight->second.bytes.size();
  if (!stored) {
    for (size_t i = 0; i < flight->second.sequences.size(); ++i) {
      const bool on_the_way = flight->second.sent_us[i] != 0 && flight->second.sequences[i] == 0;
      if (on_the_way) wire_bytes_ -= message_bytes(flight->second, i);
    }
    ++refused_;
  }
  flights_.erase(flight);
  {
    const std::lock_guard lock(mutex_);
    waiting_bytes_ -= bytes;
  }
  changed_.notify_all();
}

}  // namespace aurora
