// The client side of a llama-server compatible API, as far as a replay needs it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/status.h"

namespace aurora {

struct ChatRequest {
  std::string messages;  // JSON array
  std::string domain;    // sent as X-Aurora-Domain unless empty
  int tokens_max = 80;
  double temperature = 0;
  uint32_t seed = 20;
  bool speculate = true;  // false: X-Aurora-Speculate: off, served without a draft and not captured
};

struct Answer {
  std::string text;
  int tokens = 0;        // generated
  double decode_ms = 0;  // without the prefill
  int draft_tokens = 0;  // proposed; 0 where the server does not say
  int accepted_tokens = 0;
};

// One connection, kept open between calls. Not thread-safe: one client a thread.
class ServerClient {
 public:
  // url: http://host[:port]. A bearer token is sent unless api_key is empty.
  explicit ServerClient(const std::string& url, const std::string& api_key = "");
  ~ServerClient();
  ServerClient(ServerClient&&) noexcept;

  // Blocks until the server has loaded its model, at most that long. kUnavailable if nobody
  // listens.
  Status wait_ready(double seconds_max);

  // Blocks until the whole answer is there. Tried again, at most 120 times at half a second, only
  // while the server says that it is still loading.
  Result<Answer> chat(const ChatRequest& request);

  // Samples of GET /metrics by name; kNotFound where the server has it switched off.
  Result<std::map<std::string, double>> metrics();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aurora
