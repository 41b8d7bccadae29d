// The client side of a llama-server compatible API, as far as replays and rollouts need it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "replay/chat_stream.h"

namespace aurora {

struct ChatRequest {
  std::string messages;  // JSON array
  std::string domain;    // sent as X-Aurora-Domain unless empty
  int tokens_max = 80;
  double temperature = 0;
  uint32_t seed = 20;
  bool speculate = true;     // false: X-Aurora-Speculate: off and X-Aurora-Capture: off
  bool cache_prompt = true;  // false: the whole prompt is evaluated, whoever asked it before
  bool stream = false;       // true: the answer says when its tokens came
};

// Another answer to a prompt that was served before: see rollouts.h.
struct RolloutRequest {
  std::vector<int32_t> prompt;  // tokens
  uint64_t of = 0;              // id of the request that had it: X-Aurora-Rollout-Of
  std::string tenant, domain;
  int64_t expires_in_s = 0;  // 0: the server's default
  int tokens_max = 256;
  double temperature = 1;
  uint32_t seed = 0;
};

struct RolloutEnd {
  bool whole = false;  // false: the server is, or was then, busy with a request
  bool began = false;  // some of it was generated
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

  // Blocks until the answer is whole or the server ends it for somebody's request. kInvalid: this
  // prompt is refused for good (too long, say).
  Result<RolloutEnd> roll_out(const RolloutRequest& request);

  // How many requests the server takes at once. kInvalid: it wants another API key.
  Result<int> slots();

  void stop();  // any thread: the call that blocks ends with kUnavailable

  // Samples of GET /metrics by name; kNotFound where the server has it switched off.
  Result<std::map<std::string, double>> metrics();
  Result<std::string> metrics_text();

 private:
  struct Impl;
  Result<Answer> chat_streamed(const ChatRequest& request);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aurora
