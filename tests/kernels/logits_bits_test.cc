// On a real model (AURORA_TEST_TARGET): the logits of a position are the same bits however it is
// computed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "common.h"
#include "kernels/kernels.h"
#include "llama-cpp.h"

namespace aurora {
namespace {

struct Token {
  int sequence;
  int position;
};

class LogitsBits : public testing::Test {
 protected:
  static constexpr int kLength = 160;

  static void SetUpTestSuite() {
    const char* path = std::getenv("AURORA_TEST_TARGET");
    if (path == nullptr) return;
    kernels::install();
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    model_.reset(llama_model_load_from_file(path, llama_model_default_params()));
  }
  static void TearDownTestSuite() { model_.reset(); }

  void SetUp() override { ASSERT_TRUE(model_) << "set AURORA_TEST_TARGET to a GGUF target"; }

  static llama_context_ptr context(int threads, int sequences = 1, bool unified = true) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 2048;
    params.n_batch = params.n_ubatch = 512;
    params.n_seq_max = static_cast<uint32_t>(sequences);
    params.kv_unified = unified;
    params.n_threads = params.n_threads_batch = threads;
    return llama_context_ptr(llama_init_from_model(model_.get(), params));
  }

  // The text of a sequence; different sequences share their first 20 tokens.
  static llama_token token_at(Token at) {
    const int salt = at.position < 20 ? 0 : at.sequence * 7919;
    return 50 + (at.position * 131 + salt) % 4000;
  }

  static void decode(llama_context* context, const std::vector<Token>& tokens) {
    common_batch batch(context);
    for (const Token& token : tokens)
      batch.add(token_at(token), token.position, token.sequence, true);
    ASSERT_EQ(llama_process(context, LLAMA_PROCESS_TYPE_DECODE, batch.get()), 0);
  }

  static std::vector<float> logits(llama_context* context, int row) {
    const float* values = llama_get_logits_ith(context, row);
    return {values, values + llama_vocab_n_tokens(llama_model_get_vocab(model_.get()))};
  }

  // Logits of every position of sequence 0, one token at a time on one thread: what all else must
  // equal.
  static const std::vector<std::vector<float>>& alone() {
    static const std::vector<std::vector<float>> kAlone = [] {
      std::vector<std::vector<float>> all;
      const llama_context_ptr one = context(1);
      for (int position = 0; position < kLength; ++position) {
        decode(one.get(), {{0, position}});
        all.push_back(logits(one.get(), 0));
      }
      return all;
    }();
    return kAlone;
  }

  static void expect_as_alone(llama_context* context, int row, int position) {
    const std::vector<float> got = logits(context, row);
    const std::vector<float>& wanted = alone()[static_cast<size_t>(position)];
    ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0)
        << "position " << position;
  }

  static inline llama_model_ptr model_;
};

std::vector<Token> run_of(int sequence, int first, int count) {
  std::vector<Token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back({sequence, first + i});
  return tokens;
}

TEST_F(LogitsBits, InPromptChunksOfAnySizeAtAnyThreadCount) {
  for (int threads : {1, 2, 3}) {
    for (int chunk : {1, 2, 3, 5, 8, 16, 31, 64, 160}) {
      if (chunk == 1 && threads == 1) continue;
      SCOPED_TRACE("chunk " + std::to_string(chunk) + ", threads " + std::to_string(threads));
      const llama_context_ptr context = LogitsBits::context(threads);
      for (int first = 0; first < kLength; first += chunk) {
        const int count = std::min(chunk, kLength - first);
        decode(context.get(), run_of(0, first, count));
        for (int i = 0; i < count; ++i) expect_as_alone(context.get(), i, first + i);
      }
    }
  }
}

// Steps as speculation makes them: a batch of random size, of which a random part is taken back.
void speculate(llama_context* context, int sequences, int length, unsigned seed,
               const std::function<void(const std::vector<Token>&)>& step) {
  std::mt19937 random(seed);
  std::map<int, int> at;
  while (at[0] < length) {
    std::vector<Token> batch;
    std::map<int, int> kept;
    for (int s = 0; s < sequences; ++s) {
      const int count = 1 + static_cast<int>(random() % 9);
      kept[s] = 1 + static_cast<int>(random() % static_cast<unsigned>(count));
      for (const Token& token : run_of(s, at[s], count)) batch.push_back(token);
    }
    step(batch);
    for (int s = 0; s < sequences; ++s) {
      at[s] += kept[s];
      llama_memory_seq_rm(llama_get_memory(context), s, at[s], -1);
    }
  }
}

TEST_F(LogitsBits, InVerifyBatchesBesideOtherSequencesInReusedCells) {
  for (const bool unified : {true, false}) {
    for (int sequences : {1, 4}) {
      SCOPED_TRACE(std::string(unified ? "one pool, " : "a stream each, ") +
                   std::to_string(sequences) + " sequences");
      const llama_context_ptr context = LogitsBits::context(2, sequences, unified);
      speculate(context.get(), sequences, kLength - 10, 5, [&](const std::vector<Token>& batch) {
        decode(context.get(), batch);
        for (size_t i = 0; i < batch.size(); ++i) {
          if (batch[i].sequence == 0)
            expect_as_alone(context.get(), static_cast<int>(i), batch[i].position);
        }
      });
    }
  }
}

}  // namespace
}  // namespace aurora
