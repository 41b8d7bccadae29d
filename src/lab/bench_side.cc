#include "lab/bench_side.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include "base/clock.h"
#include "common.h"
#include "kernels/kernels.h"

namespace aurora {
namespace {

int64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

// -log p(token) of one row of logits.
double loss_of(const float* logits, int count, llama_token token) {
  const float most = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i] - most));
  return std::log(sum) - static_cast<double>(logits[token] - most);
}

}  // namespace

BenchSide::BenchSide(const BenchOptions& options, bool ours) : options_(options), ours_(ours) {
  kernels::set_enabled(ours_);
  const int64_t before = resident_bytes();
  model_.reset(llama_model_load_from_file(options.model.c_str(), llama_model_default_params()));
  weight_bytes_ = resident_bytes() - before;
  if (!model_) return;
  const int64_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
  for (int at = 0; at < options.context + kPrompt; ++at) {
    some_tokens_.push_back(static_cast<llama_token>((100 + at * 37 % 1000) % vocabulary));
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(std::max(options.context + kSizeMax, kPrompt));
  params.n_batch = params.n_ubatch = kPrompt;
  params.n_threads = params.n_threads_batch = options.threads;
  context_.reset(llama_init_from_model(model_.get(), params));
}

void BenchSide::fill() {
  for (int at = 0; at < options_.context; at += kPrompt) {
    decode(some_tokens_.data() + at, at, std::min(kPrompt, options_.context - at), false);
  }
}

double BenchSide::step_ms(int n) { return timed(options_.context, n, true); }

double BenchSide::prompt_ms() {
  llama_memory_clear(llama_get_memory(context_.get()), false);
  return timed(0, kPrompt, false);
}

double BenchSide::timed(int at, int count, bool all_logits) {
  const int64_t begin = steady_us();
  decode(some_tokens_.data() + at, at, count, all_logits);
  const double ms = static_cast<double>(steady_us() - begin) / 1000.0;
  llama_memory_seq_rm(llama_get_memory(context_.get()), 0, at, -1);
  return ms;
}

void BenchSide::decode(const llama_token* tokens, int at, int count, bool all_logits) {
  kernels::set_enabled(ours_);  // the other side's attention must not run in this one's steps
  common_batch batch(context_.get());
  for (int i = 0; i < count; ++i) batch.add(tokens[i], at + i, 0, all_logits || i == count - 1);
  llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get());
  llama_synchronize(context_.get());
}

std::vector<llama_token> BenchSide::tokenize(const std::string& text) const {
  const llama_vocab* vocabulary = llama_model_get_vocab(model_.get());
  std::vector<llama_token> tokens(text.size() + 1);
  const int count = llama_tokenize(vocabulary, text.data(), static_cast<int32_t>(text.size()),
                                   tokens.data(), static_cast<int32_t>(tokens.size()), true, false);
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

double BenchSide::chunk_loss(const llama_token* tokens) {
  llama_memory_clear(llama_get_memory(context_.get()), false);
  decode(tokens, 0, kPrompt, true);
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
  double loss = 0;
  for (int i = kPrompt / 2; i + 1 < kPrompt; ++i) {
    loss += loss_of(llama_get_logits_ith(context_.get(), i), vocabulary, tokens[i + 1]);
  }
  return loss / (kPrompt - 1 - kPrompt / 2);
}

double BenchSide::perplexity(const std::vector<llama_token>& tokens) {
  const size_t chunks = tokens.size() / kPrompt;
  double loss = 0;
  for (size_t c = 0; c < chunks; ++c) loss += chunk_loss(tokens.data() + c * kPrompt);
  return std::exp(loss / static_cast<double>(chunks));
}

}  // namespace aurora
