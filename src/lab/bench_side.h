// One model on one kind of kernels, for `aurora bench`: two of them in a process are compared step
// by step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/bench_options.h"
#include "llama-cpp.h"

namespace aurora {

class BenchSide {
 public:
  static constexpr int kPrompt = 512;  // tokens of a prompt, and of a chunk of the perplexity
  static constexpr int kSizeMax = 32;  // largest verify batch

  // Loads the model; ok() says whether that went well.
  BenchSide(const BenchOptions& options, bool ours);

  bool ok() const { return context_ != nullptr; }
  // Growth of this process's resident memory by loading, pages of the mapped file included.
  int64_t weight_bytes() const { return weight_bytes_; }
  int64_t file_bytes() const { return static_cast<int64_t>(llama_model_size(model_.get())); }

  void fill();  // decodes options.context tokens, which step_ms() stands behind
  // Milliseconds of one decode of n tokens behind the filled context, logits of every row.
  double step_ms(int n);
  // Milliseconds of a prompt of kPrompt tokens in an empty context, logits of the last row.
  double prompt_ms();

  std::vector<llama_token> tokenize(const std::string& text) const;
  // exp of the mean of -log p(token | up to kPrompt - 1 before it), over the second half of each
  // chunk of kPrompt tokens. Empties the context. At least kPrompt tokens.
  double perplexity(const std::vector<llama_token>& tokens);

 private:
  void decode(const llama_token* tokens, int at, int count, bool all_logits);
  double timed(int at, int count, bool all_logits);
  double chunk_loss(const llama_token* tokens);

  const BenchOptions options_;
  const bool ours_;
  std::vector<llama_token> some_tokens_;  // by position
  llama_model_ptr model_;
  llama_context_ptr context_;
  int64_t weight_bytes_ = 0;
};

}  // namespace aurora
