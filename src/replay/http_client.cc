#include "replay/http_client.h"

#include <cpp-httplib/httplib.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kLoadingTriesMax = 120;
constexpr auto kLoadingPause = std::chrono::milliseconds(500);
constexpr int kConnectSeconds = 10;
constexpr int kAnswerSeconds = 900;  // a slow machine under load, a long answer
constexpr const char* kChatPath = "/v1/chat/completions";
constexpr const char* kJsonType = "application/json";
constexpr int kHttpOk = 200;
constexpr int kHttpUnavailable = 503;
constexpr int kHttpUnauthorized = 401;
constexpr size_t kQuotedBytesMax = 200;
constexpr size_t kTailBytesMax = 16384;

double number_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0.0;
}

std::string request_body(const ChatRequest& request) {
  json body;
  body["messages"] = json::parse(request.messages, nullptr, false);
  body["max_tokens"] = request.tokens_max;
  body["temperature"] = request.temperature;
  body["seed"] = request.seed;
  body["stream"] = request.stream;
  if (!request.cache_prompt) body["cache_prompt"] = false;
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

httplib::Headers headers_of(const ChatRequest& request) {
  httplib::Headers headers;
  if (!request.domain.empty()) headers.emplace("X-Aurora-Domain", request.domain);
  if (request.speculate) return headers;
  // Asked for a comparison: neither learnt from nor drafted from later.
  headers.emplace("X-Aurora-Speculate", "off");
  headers.emplace("X-Aurora-Capture", "off");
  return headers;
}

Status no_response(const httplib::Result& response) {
  return Status::unavailable("no answer: " + httplib::to_string(response.error()));
}

Status refused(const httplib::Response& response) {
  return Status::io("HTTP " + std::to_string(response.status) + ": " +
                    response.body.substr(0, kQuotedBytesMax));
}

}  // namespace

struct ServerClient::Impl {
  Impl(const std::string& url, const std::string& api_key) : client(url) {
    client.set_keep_alive(true);
    client.set_tcp_nodelay(true);
    client.set_connection_timeout(kConnectSeconds);
    client.set_read_timeout(kAnswerSeconds);
    if (!api_key.empty()) client.set_bearer_token_auth(api_key);
  }
  httplib::Client client;
};

ServerClient::ServerClient(const std::string& url, const std::string& api_key)
    : impl_(std::make_unique<Impl>(url, api_key)) {}
ServerClient::~ServerClient() = default;
ServerClient::ServerClient(ServerClient&&) noexcept = default;

Status ServerClient::wait_ready(double seconds_max) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds_max);
  for (;;) {
    const httplib::Result response = impl_->client.Get("/health");
    if (!response) return no_response(response);
    if (response->status == kHttpOk) return Status::ok();
    if (response->status != kHttpUnavailable) return refused(*response);
    if (Clock::now() >= deadline) return Status::unavailable("the server is still loading");
    std::this_thread::sleep_for(kLoadingPause);
  }
}

Result<Answer> ServerClient::chat(const ChatRequest& request) {
  if (request.stream) return chat_streamed(request);
  const httplib::Headers headers = headers_of(request);
  const std::string body = request_body(request);
  for (int attempt = 1;; ++attempt) {
    const httplib::Result response = impl_->client.Post(kChatPath, headers, body, kJsonType);
    if (!response) return no_response(response);
    if (response->status == kHttpOk) return read_answer(response->body);
    // A loaded server also says 503 when it has no room: that one is a failure and is counted.
    const bool loading =
        response->status == kHttpUnavailable && response->body.find("oading") != std::string::npos;
    if (!loading || attempt == kLoadingTriesMax) return refused(*response);
    std::this_thread::sleep_for(kLoadingPause);
  }
}

Result<Answer> ServerClient::chat_streamed(const ChatRequest& request) {
  ChatStream stream(steady_us());
  const httplib::Result response =
      impl_->client.Post(kChatPath, headers_of(request), request_body(request), kJsonType,
                         [&](const char* data, size_t size) {
                           return stream.take({data, size}, steady_us());
                         });
  if (response && response->status != kHttpOk)
    return Status::io("HTTP " + std::to_string(response->status) + ": " +
                      stream.rest().substr(0, kQuotedBytesMax));
  if (!response && stream.rest().empty()) return no_response(response);
  return stream.end();
}

Result<RolloutEnd> ServerClient::roll_out(const RolloutRequest& request) {
  httplib::Headers headers = {{"X-Aurora-Rollout-Of", std::to_string(request.of)}};
  if (!request.tenant.empty()) headers.emplace("X-Aurora-Tenant", request.tenant);
  if (!request.domain.empty()) headers.emplace("X-Aurora-Domain", request.domain);
  if (request.expires_in_s > 0)
    headers.emplace("X-Aurora-Expires-In", std::to_string(request.expires_in_s));
  // The target's own law: no sampler but the temperature.
  const json body = {{"prompt", request.prompt},
                     {"n_predict", request.tokens_max},
                     {"temperature", request.temperature},
                     {"seed", request.seed},
                     {"samplers", {"temperature"}},
                     {"top_k", 0},
                     {"top_p", 1},
                     {"min_p", 0},
                     {"stream", true}};
  std::string tail;  // of the stream: its last event says how it ended
  RolloutEnd end;
  const auto keep_tail = [&](const char* data, size_t size) {
    tail.append(data, size);
    end.began = end.began || tail.find("\"content\":") != std::string::npos;
    if (tail.size() > kTailBytesMax) tail.erase(0, tail.size() - kTailBytesMax);
    return true;
  };
  const httplib::Result response =
      impl_->client.Post("/completion", headers, body.dump(), "application/json", keep_tail);
  if (!response) return no_response(response);
  end.whole = response->status == kHttpOk && tail.find("\"stop\":true") != std::string::npos;
  const bool busy = tail.find("gave way to a request") != std::string::npos ||
                    tail.find("a request is being served") != std::string::npos ||
                    tail.find("no slot is free") != std::string::npos;
  if (end.whole || busy) return end;
  const std::string said =
      "HTTP " + std::to_string(response->status) + ": " + tail.substr(0, kQuotedBytesMax);
  return response->status / 100 == 4 ? Status::invalid(said) : Status::io(said);
}

void ServerClient::stop() { impl_->client.stop(); }

Result<int> ServerClient::slots() {
  const httplib::Result response = impl_->client.Get("/props");
  if (!response) return no_response(response);
  if (response->status == kHttpUnauthorized)
    return Status::invalid("the server wants its API key: give it by --api-key");
  if (response->status != kHttpOk) return refused(*response);
  const json object = json::parse(response->body, nullptr, false);
  return static_cast<int>(number_at(object.is_object() ? object : json::object(), "total_slots"));
}

Result<std::map<std::string, double>> ServerClient::metrics() {
  auto text = metrics_text();
  if (!text) return text.status();
  return parse_metrics(*text);
}

Result<std::string> ServerClient::metrics_text() {
  const httplib::Result response = impl_->client.Get("/metrics");
  if (!response) return no_response(response);
  if (response->status == kHttpUnauthorized) return Status::invalid("the server wants its API key");
  if (response->status != kHttpOk) return Status::not_found("the server offers no /metrics");
  return response->body;
}

}  // namespace aurora
