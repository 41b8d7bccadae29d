// One draft version at work: llama.cpp model and context of its own, and the draft KV of every slot
// in it. KV entries are keyed by kept rows, so nothing has to be told about cache reuse, restored
// prompts or swaps: a draft call compares what it holds with the slot's rows and builds only what
// differs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aurora_seam.h"
#include "base/status.h"
#include "llama-cpp.h"

namespace aurora {

struct DraftHost {
  llama_context* target = nullptr;  // lends token embedding; outlives the engine
  int32_t slots = 1;
  int32_t threads = 1;
};

// Not thread-safe: one thread at a time owns it (the loader until adoption, then the engine
// thread).
class DraftEngine {
 public:
  // A slot's wish for a draft. rows are [0, n) of the tokens in the target's KV, next is x_n, not
  // decoded yet.
  struct Wish {
    int32_t slot = 0;
    const KeptRows* rows = nullptr;
    int32_t next = 0;
    int32_t depth = 0;            // most tokens to draft
    float prob_min = 0;           // stop before a token the draft finds less probable than this
    std::vector<int32_t> tokens;  // out
    std::vector<float> probs;     // out, the draft's own probability of each
  };

  static Result<std::unique_ptr<DraftEngine>> load(const std::string& path, int64_t version,
                                                   const DraftHost& host);

  // Builds the draft KV for all rows but the last, whose next token is not known yet. Used before
  // adoption.
  Status prefill(int32_t slot, std::span<const KeptRowPtr> rows);

  // Drafts for all wishes in common batches: one decode for the rows not built yet, one for each
  // further depth. On an error nothing is drafted and the KV is empty again: the next call rebuilds
  // it.
  Status draft(std::span<Wish> wishes);

  void set_threads(int32_t threads);
  int64_t version() const { return version_; }

 private:
  struct Entry {  // draft KV at a position: this row's taps with the token that follows it
    uint64_t row_id = 0;
    int32_t next = 0;
    bool operator==(const Entry&) const = default;
  };
  struct Pair {
    int32_t slot;
    int32_t position;
    int32_t next;
    const KeptRow* row;
    bool output;
  };

  DraftEngine(llama_model_ptr model, llama_context_ptr context, int64_t version,
              const DraftHost& host);

  void collect(int32_t slot, std::span<const KeptRowPtr> rows, const int32_t* next,
               std::vector<Pair>& pairs);
  Status build(std::span<const Pair> pairs);
  Status encode(std::span<const Pair> pairs);
  Status chain(std::span<Wish> wishes);
  void forget_all();

  llama_model_ptr model_;
  llama_context_ptr context_;
  const int64_t version_;
  const int32_t hidden_;
  const int32_t vocab_;
  std::vector<std::vector<Entry>> built_;  // by slot, index = position
  std::vector<Pair> pairs_;
  std::vector<float> features_;  // [rows, 3D]
  std::vector<float> states_;    // [rows, D]
};

}  // namespace aurora
