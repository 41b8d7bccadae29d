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
  if (!model) return Status::corrupt("llama.cpp cannot load the draft " + path);

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
      built_(static_cast<size_t>(host.slots)) {}

void DraftEngine::set_threads(int32_t threads) {
  llama_set_n_threads(context_.get(), threads, threads);
}

void DraftEngine::forget_all() {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  for (auto& entries : built_) entries.clear();
}

// Appends the pairs (row i, token i + 1) that the KV lacks; the last row's token is *next, or it is
// left out.
void DraftEngine::collect(int32_t slot, std::span<const KeptRowPtr> rows, const int32_t* next,
                          std::vector<Pair>& pairs) {
  auto& entries = built_[static_cast<size_t>(slot)];
  const size_t usable = next != nullptr ? rows.size() : rows.size() - 1;
  const auto follower = [&](size_t i) { return i + 1 < rows.size() ? rows[i + 1]->token : *next; };
  // Rows before the first known one have an empty entry and nothing in the KV.
  const auto wanted = [&](size_t i) { return rows[i] ? Entry{rows[i]->id, follower(i)} : Entry{}; };
  size_t same = 0;
  const size_t limit = std::min(entries.size(), usable);
  while (same < limit && entries[same] == wanted(same)) ++same;
  // A wish wants the last pair's output, so that pair is always computed.
  if (next != nullptr && same == usable) --same;
  llama_memory_seq_rm(llama_get_memory(context_.get()), slot, static_cast<llama_pos>(same), -1);
  entries.resize(same);
  for (; same < usable && !rows[same]; ++same) entries.emplace_back();
  for (size_t i = same; i < usable; ++i) {
    pairs.push_back({slot, static_cast<int32_t>(i), follower(i), rows[i].get(),
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
    if (llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) {
      return Status::internal("the draft's decoder failed");
    }
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

Status DraftEngine::draft(std::span<Wish> wishes) {
  pairs_.clear();
  for (const Wish& wish : wishes) collect(wish.slot, wish.rows->rows, &wish.next, pairs_);
  // The eagle3 graph returns the first rows of a batch, whichever asked for output: rows that only
  // fill the KV and rows that draft go in batches of their own.
  const auto drafting = std::stable_partition(pairs_.begin(), pairs_.end(),
                                              [](const Pair& pair) { return !pair.output; });
  const std::span<const Pair> fill(pairs_.begin(), drafting), last(drafting, pairs_.end());
  Status status = build(fill);
  if (status) status = build(last);
  if (status) status = chain(wishes);
  if (!status) {
    for (Wish& wish : wishes) wish.tokens.clear();
    forget_all();
  }
  return status;
}

// Depth by depth: each slot's newest token and the state that drafted it make the next input. The
// entries it leaves in the KV stand on drafted states; the next collect() removes them and the
// accepted positions get true taps.
Status DraftEngine::chain(std::span<Wish> wishes) {
  std::vector<std::pair<size_t, int32_t>> active;  // wish, index of its output in the last batch
  for (size_t i = 0; i < wishes.size(); ++i) active.emplace_back(i, static_cast<int32_t>(i));
  while (!active.empty()) {
    common_batch batch(context_.get());
    std::vector<std::pair<size_t, int32_t>> still;
    for (const auto& [index, output] : active) {
      Wish& wish = wishes[index];
      const float* logits = llama_get_logits_ith(context_.get(), output);
      const float* state = llama_get_embeddings_nextn_ith(context_.get(), output);
      if (logits == nullptr || state == nullptr)
        return Status::internal("the draft gave no output");
      const TopToken top = top_token({logits, static_cast<size_t>(vocab_)});
      if (top.prob < wish.prob_min) continue;
      wish.tokens.push_back(top.id);
      wish.probs.push_back(top.prob);
      if (static_cast<int32_t>(wish.tokens.size()) >= wish.depth) continue;
      const auto position = static_cast<llama_pos>(wish.rows->rows.size() - 1 + wish.tokens.size());
      const int32_t at = batch.add(top.id, position, wish.slot, true);
      batch.set_embd(at, {state, 1, static_cast<size_t>(hidden_)});
      still.emplace_back(index, at);
    }
    active = std::move(still);
    if (active.empty()) break;
    if (llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) {
      return Status::internal("the draft's decoder failed");
    }
  }
  return Status::ok();
}

}  // namespace aurora
