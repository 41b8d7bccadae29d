#include "nats/jetstream.h"

#include <algorithm>
#include <charconv>

#include "base/clock.h"

namespace aurora {
namespace {

constexpr int64_t kRequestMs = 5000;
constexpr int64_t kDuplicateWindowS = 120;
constexpr size_t kFetchBytesMax = 64u << 20;
constexpr int kErrorOtherConfig = 10058;
constexpr int kErrorNoStream = 10059;
constexpr int kErrorUnexpectedLast = 10071;

// The value of the first `"key":` as a number; 0 where there is none. Enough for the broker's
// answers: flat, without spaces, and each key asked for here stands in them once.
uint64_t json_number(std::string_view json, std::string_view key) {
  const std::string quoted = "\"" + std::string(key) + "\":";
  const size_t at = json.find(quoted);
  if (at == json.npos) return 0;
  uint64_t value = 0;
  std::from_chars(json.data() + at + quoted.size(), json.data() + json.size(), value);
  return value;
}

std::string json_text(std::string_view json, std::string_view key) {
  const std::string quoted = "\"" + std::string(key) + "\":\"";
  const size_t at = json.find(quoted);
  if (at == json.npos) return "";
  const size_t begin = at + quoted.size();
  return std::string(json.substr(begin, json.find('"', begin) - begin));
}

struct ApiError {
  int code = 0;  // 0: none
  int error = 0;
  std::string reason;
};

ApiError api_error(std::string_view json) {
  const size_t at = json.find("\"error\":");
  if (at == json.npos) return {};
  const std::string_view body = json.substr(at);
  return {static_cast<int>(json_number(body, "code")),
          static_cast<int>(json_number(body, "err_code")), json_text(body, "description")};
}

std::string number_or_none(uint64_t value) { return value == 0 ? "-1" : std::to_string(value); }

std::string config_json(const StreamConfig& c) {
  constexpr int64_t kNsPerS = 1000000000;
  return R"({"name":")" + c.name + R"(","subjects":[")" + c.subjects +
         R"("],"retention":"limits","discard":"old","storage":"file","allow_direct":true,)"
         R"("allow_msg_ttl":true,"max_consumers":-1,"max_msgs":-1,"max_msg_size":-1,"max_bytes":)" +
         number_or_none(c.bytes_max) + R"(,"max_msgs_per_subject":)" +
         number_or_none(c.per_subject_max) + R"(,"max_age":)" + std::to_string(c.age_s * kNsPerS) +
         R"(,"duplicate_window":)" + std::to_string(kDuplicateWindowS * kNsPerS) +
         R"(,"num_replicas":)" + std::to_string(c.replicas) + "}";
}

Status refused(const std::string& stream, const ApiError& error) {
  const std::string text = "the broker refuses stream " + stream + ": " + error.reason;
  return error.code >= 500 ? Status::unavailable(text) : Status::invalid(text);
}

Result<NatsMessage> next(NatsInbox& inbox) {
  Result<std::optional<NatsMessage>> message = inbox.next(kRequestMs);
  if (!message) return message.status();
  if (!message->has_value()) return Status::unavailable("the broker stopped answering a fetch");
  if ((*message)->status() == 503) return Status::unavailable("no broker serves the stream");
  return std::move(**message);
}

uint64_t header_number(const NatsMessage& message, const char* name) {
  uint64_t value = 0;
  const std::string text = message.header(name);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The broker counts what is left in each answer to a fetch of many (its ADR-31).
StoredMessage stored(NatsMessage message) {
  const uint64_t sequence = header_number(message, "Nats-Sequence");
  const uint64_t later = header_number(message, "Nats-Num-Pending");
  return {sequence, std::move(message), later};
}

Status ask(NatsConnection& connection, const NatsInbox& inbox, const std::string& stream,
           std::string_view body) {
  return connection.publish({.subject = "$JS.API.DIRECT.GET." + stream,
                             .reply = inbox.subject(),
                             .headers = {},
                             .data = as_bytes(std::span(body))});
}

}  // namespace

Status ensure_stream(NatsConnection& connection, const StreamConfig& config, bool adjust) {
  const std::string json = config_json(config);
  Result<NatsMessage> answer =
      connection.request("$JS.API.STREAM.CREATE." + config.name, json, kRequestMs);
  if (!answer) return answer.status();
  ApiError error = api_error(answer->text());
  if (error.error == kErrorOtherConfig) {
    if (!adjust) return Status::ok();
    answer = connection.request("$JS.API.STREAM.INFO." + config.name, "", kRequestMs);
    if (!answer) return answer.status();
    // An operator's own settings beside the bounds stay as long as the bounds agree.
    const StreamConfig& c = config;
    const std::string_view now = answer->text();
    const auto says = [&](const std::string& pair) { return now.find(pair + ",") != now.npos; };
    if (says("\"max_bytes\":" + number_or_none(c.bytes_max)) &&
        says("\"max_age\":" + std::to_string(c.age_s * 1000000000)) &&
        says("\"num_replicas\":" + std::to_string(c.replicas)) && says("\"allow_direct\":true") &&
        says("\"allow_msg_ttl\":true")) {
      return Status::ok();
    }
    answer = connection.request("$JS.API.STREAM.UPDATE." + config.name, json, kRequestMs);
    if (!answer) return answer.status();
    error = api_error(answer->text());
  }
  if (error.code != 0) return refused(config.name, error);
  if (answer->text().find("\"allow_msg_ttl\":true") == std::string_view::npos) {
    return Status::invalid(
        "this nats-server does not know lifetimes of single messages; run 2.11 or newer");
  }
  return Status::ok();
}

Result<StreamState> stream_state(NatsConnection& connection, const std::string& stream,
                                 const std::string& subject) {
  Result<NatsMessage> answer = connection.request(
      "$JS.API.STREAM.INFO." + stream, R"({"subjects_filter":")" + subject + "\"}", kRequestMs);
  if (!answer) return answer.status();
  const std::string_view json = answer->text();
  if (const ApiError error = api_error(json); error.code != 0) {
    return error.error == kErrorNoStream ? Status::not_found("stream " + stream)
                                         : refused(stream, error);
  }
  const size_t at = json.find("\"state\":");
  if (at == json.npos) return Status::corrupt("the broker's word on stream " + stream);
  const std::string_view state = json.substr(at);
  return StreamState{.messages = json_number(state, subject),
                     .bytes = json_number(state, "bytes"),
                     .first_sequence = json_number(state, "first_seq"),
                     .last_sequence = json_number(state, "last_seq")};
}

Result<std::vector<StoredMessage>> fetch(NatsConnection& connection, const FetchRequest& request) {
  Result<NatsInbox> inbox = connection.inbox();
  if (!inbox) return inbox.status();
  const std::string body =
      R"({"seq":)" + std::to_string(std::max<uint64_t>(1, request.first)) + R"(,"batch":)" +
      std::to_string(request.count) + R"(,"max_bytes":)" +
      std::to_string(std::clamp<size_t>(request.bytes_max, 1, kFetchBytesMax)) +
      R"(,"next_by_subj":")" + request.subject + "\"}";
  if (Status status = ask(connection, *inbox, request.stream, body); !status) return status;
  std::vector<StoredMessage> messages;
  while (messages.size() <= request.count) {
    Result<NatsMessage> message = next(*inbox);
    if (!message) return message.status();
    const int status = message->status();
    if (status == 204 || status == 404) break;  // the end of the batch, or nothing there
    if (status != 0) {
      return Status::unavailable("a fetch from " + request.stream + " was answered with " +
                                 std::to_string(status) + " " + message->header("Description"));
    }
    messages.push_back(stored(std::move(*message)));
  }
  return messages;
}

Result<std::vector<StoredMessage>> fetch_each(NatsConnection& connection, const std::string& stream,
                                              const std::vector<uint64_t>& sequences) {
  constexpr size_t kAtOnce = 16;
  Result<NatsInbox> inbox = connection.inbox();
  if (!inbox) return inbox.status();
  std::vector<StoredMessage> messages;
  size_t asked = 0;
  for (size_t answered = 0; answered < sequences.size(); ++answered) {
    for (; asked < std::min(sequences.size(), answered + kAtOnce); ++asked) {
      const std::string body = R"({"seq":)" + std::to_string(sequences[asked]) + "}";
      if (Status status = ask(connection, *inbox, stream, body); !status) return status;
    }
    Result<NatsMessage> message = next(*inbox);
    if (!message) return message.status();
    if (message->status() == 0) messages.push_back(stored(std::move(*message)));
  }
  return messages;
}

Result<StoredMessage> fetch_last(NatsConnection& connection, const std::string& stream,
                                 const std::string& subject) {
  Result<NatsMessage> answer = connection.request(
      "$JS.API.DIRECT.GET." + stream, R"({"last_by_subj":")" + subject + "\"}", kRequestMs);
  if (!answer) return answer.status();
  const int status = answer->status();
  if (status == 404) return Status::not_found(subject);
  if (status != 0) return Status::unavailable("the broker answers " + std::to_string(status));
  return stored(std::move(*answer));
}

PublishAnswer parse_publish_answer(const NatsMessage& message) {
  PublishAnswer answer;
  if (message.status() != 0) {
    answer.code = message.status();
    answer.reason = "no broker serves the stream";
    return answer;
  }
  const ApiError error = api_error(message.text());
  answer.code = error.code;
  answer.error = error.error;
  answer.reason = error.reason;
  answer.sequence = error.code == 0 ? json_number(message.text(), "seq") : 0;
  if (answer.code == 0 && answer.sequence == 0) {
    answer.code = 500;
    answer.reason = "an answer without a sequence";
  }
  return answer;
}

Result<uint64_t> publish_confirmed(NatsConnection& connection, const NatsOutgoing& message) {
  Result<NatsMessage> reply = connection.request(message, kRequestMs);
  if (!reply) return reply.status();
  const PublishAnswer answer = parse_publish_answer(*reply);
  if (answer.code == 0) return answer.sequence;
  const std::string text = message.subject + ": " + answer.reason;
  if (answer.error == kErrorUnexpectedLast) return Status::exists(text);
  const bool again = answer.code >= 500 || answer.still_in_process();
  return again ? Status::unavailable(text) : Status::invalid(text);
}

}  // namespace aurora
