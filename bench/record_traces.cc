// aurora-record-traces: answers prompts greedily with a target, one sequence, no draft, and appends
// the full trace records to a trace buffer. A development tool: gives the trainer real traces
// without a server.
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"
#include "chat.h"
#include "common.h"
#include "draft/taps.h"
#include "llama-cpp.h"
#include "llama-ext.h"
#include "registry/target_fingerprint.h"
#include "trace/record.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

constexpr int kContextTokens = 2048;
constexpr float kHalfMax = 65504.0f;

struct Options {
  std::string model;
  std::string prompts;
  std::string out;
  int count = 100;
  int skip = 0;
  int max_tokens = 80;
  int threads = 1;
  int law_k = 64;
};

struct Prompt {
  std::string domain;
  std::vector<common_chat_msg> messages;
};

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// Throws nlohmann's exceptions on a malformed line: main() reports them.
std::vector<Prompt> read_prompts(const Options& options) {
  std::ifstream in(options.prompts);
  std::vector<Prompt> prompts;
  std::string line;
  for (int i = 0; std::getline(in, line) && i < options.skip + options.count; ++i) {
    if (i < options.skip) continue;
    const auto json = nlohmann::json::parse(line);
    Prompt prompt{.domain = json.value("domain", ""), .messages = {}};
    for (const auto& message : json.at("messages")) {
      common_chat_msg msg;
      msg.role = message.at("role").get<std::string>();
      msg.content = message.at("content").get<std::string>();
      prompt.messages.push_back(std::move(msg));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// Appends the top k of softmax(logits) under the full normaliser.
void append_law(const float* logits, int vocab, LawRows& law) {
  const float max = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int v = 0; v < vocab; ++v) sum += std::exp(logits[v] - max);
  const float log_norm = max + static_cast<float>(std::log(sum));
  std::vector<int32_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(ids.begin(), ids.begin() + law.k, ids.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (int i = 0; i < law.k; ++i) {
    law.ids.push_back(ids[i]);
    law.logprobs.push_back(logits[ids[i]] - log_norm);
  }
}

class Recorder {
 public:
  static Result<std::unique_ptr<Recorder>> open(const Options& options);

  // kFull: the prompt does not fit the context.
  Result<TraceRecord> answer(const Prompt& prompt);

 private:
  Status decode(std::vector<llama_token> tokens, TraceRecord& record);

  Options options_;
  llama_model_ptr model_;
  llama_context_ptr context_;
  common_chat_templates_ptr templates_;
  std::string target_;
  uint64_t next_id_ = 0;
};

Result<std::unique_ptr<Recorder>> Recorder::open(const Options& options) {
  auto recorder = std::make_unique<Recorder>();
  recorder->options_ = options;
  auto fingerprint = target_fingerprint(options.model);
  if (!fingerprint) return fingerprint.status();
  recorder->target_ = *fingerprint;
  recorder->next_id_ = static_cast<uint64_t>(std::random_device{}()) << 32;

  recorder->model_.reset(
      llama_model_load_from_file(options.model.c_str(), llama_model_default_params()));
  if (!recorder->model_) return Status::invalid("cannot load the model " + options.model);
  auto params = llama_context_default_params();
  params.n_ctx = params.n_batch = kContextTokens;
  params.n_threads = params.n_threads_batch = options.threads;
  recorder->context_.reset(llama_init_from_model(recorder->model_.get(), params));
  if (!recorder->context_) return Status::internal("cannot make a context");
  int taps[kTapCount];
  default_tap_layers(llama_model_n_layer(recorder->model_.get()), taps);
  for (const int layer : taps)
    llama_set_embeddings_layer_inp(recorder->context_.get(), layer, true);
  recorder->templates_ = common_chat_templates_init(recorder->model_.get(), "");
  return recorder;
}

// Decodes tokens behind what the context holds, and appends their taps and the law of the last one.
Status Recorder::decode(std::vector<llama_token> tokens, TraceRecord& record) {
  const size_t rows = tokens.size();
  const size_t hidden = static_cast<size_t>(record.hidden);
  if (llama_decode(context_.get(),
                   llama_batch_get_one(tokens.data(), static_cast<int32_t>(rows))) != 0) {
    return Status::internal("decode failed");
  }
  const size_t start = record.taps.size();
  record.taps.resize(start + rows * kTapCount * hidden);
  std::vector<float> clipped(hidden);
  for (int tap = 0; tap < kTapCount; ++tap) {
    const float* source = llama_get_embeddings_layer_inp(context_.get(), record.tap_layers[tap]);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t d = 0; d < hidden; ++d) {
        clipped[d] = std::clamp(source[row * hidden + d], -kHalfMax, kHalfMax);
      }
      ggml_fp32_to_fp16_row(clipped.data(),
                            record.taps.data() + start + (row * kTapCount + tap) * hidden,
                            static_cast<int64_t>(hidden));
    }
  }
  append_law(llama_get_logits_ith(context_.get(), -1),
             llama_vocab_n_tokens(llama_model_get_vocab(model_.get())), record.laws);
  return Status::ok();
}

Result<TraceRecord> Recorder::answer(const Prompt& prompt) {
  common_chat_templates_inputs inputs;
  inputs.messages = prompt.messages;
  const auto chat = common_chat_templates_apply(templates_.get(), inputs);
  const llama_vocab* vocab = llama_model_get_vocab(model_.get());
  std::vector<llama_token> tokens = common_tokenize(vocab, chat.prompt, true, true);
  if (tokens.size() + options_.max_tokens > kContextTokens) return Status::full("prompt too long");

  TraceRecord record;
  record.id = next_id_++;
  record.created_ms = now_ms();
  record.target = target_;
  record.domain = prompt.domain;
  record.hidden = llama_model_n_embd(model_.get());
  default_tap_layers(llama_model_n_layer(model_.get()), record.tap_layers);
  record.prompt_tokens = static_cast<int32_t>(tokens.size());
  record.laws.k = std::min(options_.law_k, llama_vocab_n_tokens(vocab));

  llama_memory_clear(llama_get_memory(context_.get()), true);
  record.tokens = tokens;
  for (int i = 0; i < options_.max_tokens; ++i) {
    Status status = decode(std::move(tokens), record);
    if (!status) return status;
    const llama_token next = record.laws.ids[record.laws.ids.size() - record.laws.k];
    record.tokens.push_back(next);
    if (llama_vocab_is_eog(vocab, next)) break;
    tokens = {next};
  }
  record.target_steps = record.served_tokens();
  return record;
}

Status parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = argv[i + 1];
    if (flag == "--model") options.model = value;
    else if (flag == "--prompts") options.prompts = value;
    else if (flag == "--out") options.out = value;
    else if (flag == "--count") options.count = std::atoi(value);
    else if (flag == "--skip") options.skip = std::atoi(value);
    else if (flag == "--max-tokens") options.max_tokens = std::atoi(value);
    else if (flag == "--threads") options.threads = std::atoi(value);
    else if (flag == "--law-k") options.law_k = std::atoi(value);
    else return Status::invalid("unknown flag " + flag);
  }
  if (options.model.empty() || options.prompts.empty() || options.out.empty()) {
    return Status::invalid(
        "--model target.gguf --prompts file.jsonl --out DIR [--count N] [--skip N] [--max-tokens N]"
        " [--threads N] [--law-k N]");
  }
  if (options.max_tokens < 1 || options.max_tokens >= kContextTokens || options.law_k < 1) {
    return Status::invalid("--max-tokens and --law-k must be at least 1");
  }
  return Status::ok();
}

Status run(const Options& options) {
  auto buffer = open_lmdb_buffer({.dir = options.out});
  if (!buffer) return buffer.status();
  auto recorder = Recorder::open(options);
  if (!recorder) return recorder.status();
  int64_t tokens = 0;
  int done = 0;
  const int64_t start = now_ms();
  for (const Prompt& prompt : read_prompts(options)) {
    auto record = (*recorder)->answer(prompt);
    if (!record && record.status().code() == StatusCode::kFull) continue;
    if (!record) return record.status();
    auto sequence = (*buffer)->append(*record);
    if (!sequence) return sequence.status();
    tokens += record->served_tokens();
    if (++done % 10 == 0) {
      std::fprintf(stderr, "%d records, %lld served tokens, %.1f tokens/s\n", done,
                   static_cast<long long>(tokens), 1e3 * tokens / (now_ms() - start + 1));
    }
  }
  return Status::ok();
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  aurora::Options options;
  aurora::Status status = aurora::parse(argc, argv, options);
  if (status) {
    llama_log_set(
        [](ggml_log_level level, const char* text, void*) {
          if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT)
            std::fputs(text, stderr);
        },
        nullptr);
    llama_backend_init();
    try {
      status = aurora::run(options);
    } catch (const std::exception& error) {
      status = aurora::Status::internal(error.what());
    }
    llama_backend_free();
  }
  if (!status) std::fprintf(stderr, "aurora-record-traces: %s\n", status.to_string().c_str());
  return status ? 0 : 1;
}
