// Answers of the chat API as they come: one JSON object, or a stream of server-sent events.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace aurora {

struct Answer {
  std::string text;
  int tokens = 0;        // generated
  double decode_ms = 0;  // without the prefill
  int draft_tokens = 0;  // proposed; 0 where the server does not say
  int accepted_tokens = 0;
  // Of streamed answers alone: when text came, as the client saw it.
  double first_ms = 0;          // from asking to the first piece
  std::vector<double> gaps_ms;  // between a piece and the next; a piece is a token
};

// The whole answer in one body.
Result<Answer> read_answer(const std::string& body);

// Takes the bytes of a stream in whatever pieces they arrive. A line longer than 4 MiB is damage.
class ChatStream {
 public:
  explicit ChatStream(int64_t asked_us) : last_us_(asked_us) {}

  // False: the stream is damaged, take no more of it.
  bool take(std::string_view bytes, int64_t now_us);
  // What came before the first event: the message of an error.
  const std::string& rest() const { return line_; }
  // corrupt: it did not end as a stream ends.
  Result<Answer> end();

 private:
  bool take_line(int64_t now_us);

  std::string line_;  // not yet whole
  Answer answer_;
  int64_t last_us_;  // of the last piece; of asking before the first
  bool begun_ = false, done_ = false;
};

}  // namespace aurora
