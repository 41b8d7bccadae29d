#include "speculator/draft_engine.h"

#include <algorithm>
#include <cstring>

#include "common.h"
#include "llama-ext.h"
#include "speculator/law.h"

namespace aurora {
namespace {

// Rows that fc eats at once: the encoder reserves a row of logits for each, so a small chunk keeps
// memory small.
constexpr int32_t kEncodeRows = 64;
constexpr int32_t kDecodeRows = 512;

}  // namespace

Result<std::unique_ptr<DraftEngine>> DraftEngine::load(const std::string& path, int64_t version,
                                                       const DraftHost& host) {
  // Read, not mapped: what happens to the file later must not reach a running draft.
  llama_model_params model_params = llama_model_default_params();
  model_params.load_mode = LLAMA_LOAD_MODE_NONE;
  llama_model_ptr model(llama_model_load_from_file(path.c_str(), model_params));
  // The file was checked before: what is missing is memory, or a thread.
  if (!model) return Status::io("llama.cpp cannot load the draft " + path + " now");

  llama_context_params params = llama_context_default_params();
  params.n_ctx = llama_n_ctx(host.target);
  params.n_batch = kDecodeRows;
  params.n_ubatch = kDecodeRows;
  params.n_seq_max = static_cast<uint32_t>(host.slots);
  params.n_outputs_max = static_cast<uint32_t>(std::max(kEncodeRows, host.slots));
  params.n_threads = host.threads;
  params.n_threads_batch = host.threads;
  params.kv_unified = true;
  params.no_perf = true;
  params.ctx_other = host.target;
  llama_context_ptr context(llama_init_from_model(model.get(), params));
  if (!context) return Status::internal("llama.cpp cannot make a context for the draft " + path);
  llama_set_embeddings_nextn(context.get(), true, /*masked*/ true);
  return std::unique_ptr<DraftEngine>(
      new DraftEngine(std::move(model), std::move(context), version, host));
}

DraftEngine::DraftEngine(llama_model_ptr model, llama_context_ptr context, int64_t version,
                         const DraftHost& host)
    : model_(std::move(model)),
      context_(std::move(context)),
      version_(version),
      hidden_(llama_model_n_embd(model_.get())),
      vocab_(llama_vocab_n_tokens(llama_model_get_vocab(model_.get()))),
      built_(static_cast<size_t>(host.slots)),
      output_(static_cast<size_t>(host.slots), -1) {}

void DraftEngine::set_threads(int32_t threads) {
  llama_set_n_threads(context_.get(), threads, threads);
}

void DraftEngine::forget_all() {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  for (auto& entries : built_) entries.clear();
}

// How many of the rows' pairs the KV holds already.
size_t DraftEngine::same_rows(int32_t slot, std::span<const KeptRowPtr> rows,
                              const int32_t* next) const {
  const auto& entries = built_[static_cast<size_t>(slot)];
  const size_t usable = next != nullptr ? rows.size() : rows.size() - 1;
  const auto follower = [&](size_t i) { return i + 1 < rows.size() ? rows[i + 1]->token : *next; };
  // Rows before the first known one have an empty entry and nothing in the KV.
  const auto wanted = [&](size_t i) { return rows[i] ? Entry{rows[i]->id, follower(i)} : Entry{}; };
  const size_t limit = std::min(entries.size(), usable);
  size_t same = 0;
  while (same < limit && entries[same] == wanted(same)) ++same;
  return same;
}

// A guess for the price of drafting: rows that changed below the end of what is built show up when
// it is done.
int32_t DraftEngine::rows_missing(int32_t slot, const KeptRows& rows) const {
  const auto& entries = built_[static_cast<size_t>(slot)];
  size_t same = std::min(entries.size(), rows.rows.size());
  const auto id = [&](size_t i) { return rows.rows[i] ? rows.rows[i]->id : 0; };
  while (same > 0 && entries[same - 1].row_id != id(same - 1)) --same;
  return static_cast<int32_t>(rows.rows.size() - same);
}

// Appends the pairs (row i, token i + 1) that the KV lacks, kFillRows at most; the last row's token
// is *next, or it is left out.
void DraftEngine::collect(int32_t slot, std::span<const KeptRowPtr> rows, const int32_t* next,
                          std::vector<Pair>& pairs) {
  auto& entries = built_[static_cast<size_t>(slot)];
  const size_t usable = next != nullptr ? rows.size() : rows.size() - 1;
  size_t same = same_rows(slot, rows, next);
  // A wish wants the last pair's output, so that pair is always computed.
  if (next != nullptr && same == usable) --same;
  llama_memory_seq_rm(llama_get_memory(context_.get()), slot, static_cast<llama_pos>(same), -1);
  entries.resize(same);
  for (; same < usable && !rows[same]; ++same) entries.emplace_back();
  const size_t end = next != nullptr ? std::min(usable, same + kFillRows) : usable;
  for (size_t i = same; i < end; ++i) {
    const int32_t follower = i + 1 < rows.size() ? rows[i + 1]->token : *next;
    pairs.push_back({slot, static_cast<int32_t>(i), follower, rows[i].get(),
                     next != nullptr && i + 1 == usable});
  }
}

// g = fc a for each pair, into states_. The encoder has no positions; it wants some that continue
// the sequence.
Status DraftEngine::encode(std::span<const Pair> pairs) {
  states_.resize(pairs.size() * static_cast<size_t>(hidden_));
  for (size_t begin = 0; begin < pairs.size(); begin += kEncodeRows) {
    const size_t count = std::min<size_t>(kEncodeRows, pairs.size() - begin);
    const size_t width = pairs[begin].row->taps.size();
    features_.resize(count * width);
    common_batch batch(context_.get());
    llama_pos position = llama_memory_seq_pos_max(llama_get_memory(context_.get()), 0) + 1;
    for (size_t i = 0; i < count; ++i, ++position) {
      float* out = features_.data() + i * width;
      ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(pairs[begin + i].row->taps.data()),
                            out, static_cast<int64_t>(width));
      batch.add_embd({out, 1, width}, &position, 0, true);
    }
    if (llama_process(context_.get(), LLAMA_PROCESS_TYPE_ENCODE, batch.get()) != 0) {
      return Status::internal("the draft's encoder failed");
    }
    std::memcpy(states_.data() + begin * static_cast<size_t>(hidden_),
                llama_get_embeddings_nextn(context_.get()),
                count * static_cast<size_t>(hidden_) * sizeof(float));
  }
  return Status::ok();
}

Status DraftEngine::build(std::span<const Pair> pairs) {
  for (size_t begin = 0; begin < pairs.size(); begin += kDecodeRows) {
    const auto part = pairs.subspan(begin, std::min<size_t>(kDecodeRows, pairs.size() - begin));
    if (Status status = encode(part); !status) return status;
    common_batch batch(context_.get());
    for (size_t i = 0; i < part.size(); ++i) {
      const int32_t index = batch.add(part[i].next, part[i].position, part[i].slot, part[i].output);
      const float* state = states_.data() + i * static_cast<size_t>(hidden_);
      batch.set_embd(index, {state, 1, static_cast<size_t>(hidden_)});
    }
    if (Status status = decode(batch); !status) return status;
    for (const Pair& pair : part) {
      built_[static_cast<size_t>(pair.slot)].push_back({pair.row->id, pair.next});
    }
  }
  return Status::ok();
}

Status DraftEngine::prefill(int32_t slot, std::span<const KeptRowPtr> rows) {
  if (rows.empty()) return Status::ok();
  pairs_.clear();
  collect(slot, rows, nullptr, pairs_);
  Status status = build(pairs_);
  if (!status) forget_all();
  return status;
}

Status DraftEngine::decode(common_batch& batch) {
  if (llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0)
    return Status::internal("the draft's decoder failed");
  return Status::ok();
}

// The argmax of an output row becomes the wish's newest token.
Status DraftEngine::take(ChainWish& wish, int32_t output) {
  const float* logits = llama_get_logits_ith(context_.get(), output);
  if (logits == nullptr) return Status::internal("the draft gave no output");
  const TopToken top = top_token({logits, static_cast<size_t>(vocab_)});
  wish.tokens.push_back(top.id);
  wish.probs.push_back(top.prob);
  output_[static_cast<size_t>(wish.slot)] = output;
  return Status::ok();
}

Status DraftEngine::forget(std::span<ChainWish* const> wishes, Status status) {
  for (ChainWish* wish : wishes) {
    wish->tokens.clear();
    wish->probs.clear();
  }
  forget_all();
  return status;
}

Status DraftEngine::begin(std::span<ChainWish* const> wishes) {
  pairs_.clear();
  for (ChainWish* wish : wishes) {
    wish->tokens.clear();
    wish->probs.clear();
    collect(wish->slot, wish->rows->rows, &wish->next, pairs_);
  }
  // Rows that draft come last, all of them in the last decode: their outputs are read after it.
  const auto drafting = std::stable_partition(pairs_.begin(), pairs_.end(),
                                              [](const Pair& pair) { return !pair.output; });
  const auto fill = static_cast<size_t>(drafting - pairs_.begin());
  const std::span<const Pair> pairs(pairs_);
  const size_t alone = pairs.size() <= kDecodeRows ? 0 : fill;
  Status status = build(pairs.first(alone));
  if (status) status = build(pairs.subspan(alone));
  for (size_t i = fill; status && i < pairs.size(); ++i) {
    const auto wish = std::find_if(wishes.begin(), wishes.end(),
                                   [&](const ChainWish* w) { return w->slot == pairs[i].slot; });
    status = take(**wish, static_cast<int32_t>(i - alone));
  }
  return status ? status : forget(wishes, std::move(status));
}

// Each slot's newest token and the state that drafted it make the next input. The entries it leaves
// in the KV stand on drafted states; the next collect() removes them and the accepted positions get
// true taps.
Status DraftEngine::next(std::span<ChainWish* const> wishes) {
  common_batch batch(context_.get());
  for (ChainWish* wish : wishes) {
    const int32_t output = output_[static_cast<size_t>(wish->slot)];
    const float* state = llama_get_embeddings_nextn_ith(context_.get(), output);
    if (state == nullptr) return forget(wishes, Status::internal("the draft gave no state"));
    const auto position = static_cast<llama_pos>(wish->rows->rows.size() - 1 + wish->tokens.size());
    const int32_t at = batch.add(wish->tokens.back(), position, wish->slot, true);
    batch.set_embd(at, {state, 1, static_cast<size_t>(hidden_)});
  }
  Status status = decode(batch);
  for (size_t i = 0; status && i < wishes.size(); ++i)
    status = take(*wishes[i], static_cast<int32_t>(i));
  return status ? status : forget(wishes, std::move(status));
}

}  // namespace aurora
