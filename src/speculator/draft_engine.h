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
#include "speculator/chain_drafter.h"

struct common_batch;

namespace aurora {

struct DraftHost {
  llama_context* target = nullptr;  // lends token embedding; outlives the engine
  int32_t slots = 1;
  int32_t threads = 1;
};

// Not thread-safe: one thread at a time owns it (the loader until adoption, then the engine
// thread).
class DraftEngine : public ChainDrafter {
 public:
  // io: llama.cpp has no memory or thread for it now; the file's own faults are found before.
  static Result<std::unique_ptr<DraftEngine>> load(const std::string& path, int64_t version,
                                                   const DraftHost& host);

  // Builds the draft KV for all rows but the last, whose next token is not known yet. Used before
  // adoption.
  Status prefill(int32_t slot, std::span<const KeptRowPtr> rows);

  int64_t version() const override { return version_; }
  int32_t rows_missing(int32_t slot, const KeptRows& rows) const override;
  // At most kFillRows rows of a slot are built in one step; on an error the KV is empty again and
  // the next call rebuilds it.
  Status begin(std::span<ChainWish* const> wishes) override;
  Status next(std::span<ChainWish* const> wishes) override;
  void set_threads(int32_t threads) override;

  static constexpr size_t kFillRows = 512;

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

  size_t same_rows(int32_t slot, std::span<const KeptRowPtr> rows, const int32_t* next) const;
  void collect(int32_t slot, std::span<const KeptRowPtr> rows, const int32_t* next,
               std::vector<Pair>& pairs);
  Status build(std::span<const Pair> pairs);
  Status encode(std::span<const Pair> pairs);
  Status decode(common_batch& batch);
  Status take(ChainWish& wish, int32_t output);
  Status forget(std::span<ChainWish* const> wishes, Status status);
  void forget_all();

  llama_model_ptr model_;
  llama_context_ptr context_;
  const int64_t version_;
  const int32_t hidden_;
  const int32_t vocab_;
  std::vector<std::vector<Entry>> built_;  // by slot, index = position
  std::vector<int32_t> output_;            // by slot, of the last batch; -1: none
  std::vector<Pair> pairs_;
  std::vector<float> features_;  // [rows, 3D]
  std::vector<float> states_;    // [rows, D]
};

}  // namespace aurora
