#include "replay/chat_stream.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace aurora {
namespace {

using nlohmann::json;

constexpr size_t kQuotedBytesMax = 200;
constexpr size_t kLineBytesMax = 4u << 20;
constexpr std::string_view kData = "data: ";

double number_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0.0;
}

// Both the whole body and the last event of a stream have these two.
void read_counts(const json& object, Answer* answer) {
  const json none = json::object();
  const json& timings = object.contains("timings") ? object.at("timings") : none;
  if (timings.is_object() && !timings.empty()) {
    answer->tokens = static_cast<int>(number_at(timings, "predicted_n"));
    answer->decode_ms = number_at(timings, "predicted_ms");
    answer->draft_tokens = static_cast<int>(number_at(timings, "draft_n"));
    answer->accepted_tokens = static_cast<int>(number_at(timings, "draft_n_accepted"));
  }
  const json& usage = object.contains("usage") ? object.at("usage") : none;
  if (answer->tokens == 0 && usage.is_object())
    answer->tokens = static_cast<int>(number_at(usage, "completion_tokens"));
}

std::string text_at(const json& object, const char* pointer) {
  const json::json_pointer at(pointer);
  return object.contains(at) && object.at(at).is_string() ? object.at(at).get<std::string>()
                                                          : std::string();
}

}  // namespace

Result<Answer> read_answer(const std::string& body) {
  const json object = json::parse(body, nullptr, false);
  if (!object.is_object() || !object.contains(json::json_pointer("/choices/0/message/content"))) {
    return Status::corrupt("not a chat completion: " + body.substr(0, kQuotedBytesMax));
  }
  Answer answer;
  answer.text = text_at(object, "/choices/0/message/content");
  read_counts(object, &answer);
  return answer;
}

bool ChatStream::take(std::string_view bytes, int64_t now_us) {
  for (const char c : bytes) {
    if (c != '\n') {
      line_ += c;
      if (line_.size() > kLineBytesMax) return false;
      continue;
    }
    if (!take_line(now_us)) return false;
  }
  return true;
}

bool ChatStream::take_line(int64_t now_us) {
  if (!line_.empty() && line_.back() == '\r') line_.pop_back();
  if (line_.empty() || line_.front() == ':') {  // the end of an event; a sign of life
    line_.clear();
    return true;
  }
  if (!line_.starts_with(kData)) return false;  // line_ stays: it says what is wrong
  const std::string data = std::exchange(line_, {}).substr(kData.size());
  if (data == "[DONE]") {
    done_ = true;
    return true;
  }
  const json object = json::parse(data, nullptr, false);
  if (!object.is_object() || object.contains("error")) {
    line_ = data;
    return false;
  }
  // What a model thinks before it answers is generated text like any other.
  const std::string piece = text_at(object, "/choices/0/delta/reasoning_content") +
                            text_at(object, "/choices/0/delta/content");
  if (!piece.empty()) {
    const double ms = static_cast<double>(now_us - last_us_) / 1000.0;
    if (begun_) answer_.gaps_ms.push_back(ms);
    else answer_.first_ms = ms;
    begun_ = true;
    last_us_ = now_us;
    answer_.text += piece;
  }
  read_counts(object, &answer_);
  return true;
}

Result<Answer> ChatStream::end() {
  if (!done_) return Status::corrupt("the stream broke off: " + line_.substr(0, kQuotedBytesMax));
  return std::move(answer_);
}

}  // namespace aurora
