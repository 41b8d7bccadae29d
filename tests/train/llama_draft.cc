#include "train/llama_draft.h"

#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "common.h"
#include "draft/raw_draft.h"
#include "llama-cpp.h"
#include "llama-ext.h"

namespace aurora {
namespace {

void start_backend() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
  });
}

llama_context_params context_params(const LlamaDraft::Options& options) {
  llama_context_params params = llama_context_default_params();
  // One micro batch: the encoder takes no more, and every row of the target's logits is kept.
  params.n_ctx = params.n_batch = params.n_ubatch = static_cast<uint32_t>(options.context);
  params.n_threads = params.n_threads_batch = options.threads;
  if (options.kv_f32) {
    params.type_k = params.type_v = GGML_TYPE_F32;
    // The flash attention kernel rounds what it accumulates to half precision.
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  return params;
}

}  // namespace

struct LlamaDraft::Impl {
  Options options;
  std::vector<int64_t> d2t;
  int hidden = 0;
  llama_model_ptr target_model, draft_model;  // before the contexts: freed after them
  llama_context_ptr target, draft;
  std::vector<int32_t> taps;

  Result<std::vector<float>> fuse(std::span<const float> rows, int count);
  // Decodes (token, g) pairs at first, first + 1 ... without outputs.
  Status fill(std::span<const int32_t> tokens, const float* g, int first);
  // One pair; its logits and state go to `out`.
  Status step(int32_t token, const float* g, int position, Steps& out);
};

LlamaDraft::LlamaDraft(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LlamaDraft::~LlamaDraft() = default;
int LlamaDraft::hidden() const { return impl_->hidden; }
const std::vector<int64_t>& LlamaDraft::d2t() const { return impl_->d2t; }

Result<std::unique_ptr<LlamaDraft>> LlamaDraft::open(const std::string& target_path,
                                                     const std::string& draft_path,
                                                     const Options& options) {
  start_backend();
  auto raw = read_raw_draft(draft_path);
  if (!raw) return raw.status();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->d2t = raw->d2t;
  impl->hidden = raw->shape.hidden;
  impl->target_model.reset(
      llama_model_load_from_file(target_path.c_str(), llama_model_default_params()));
  impl->draft_model.reset(
      llama_model_load_from_file(draft_path.c_str(), llama_model_default_params()));
  if (!impl->target_model) return Status::invalid("llama.cpp does not load " + target_path);
  if (!impl->draft_model) return Status::invalid("llama.cpp does not load " + draft_path);
  if (llama_model_target_layer_ids_n(impl->draft_model.get()) != 3) {
    return Status::invalid(draft_path + " names no three tap layers");
  }
  const int32_t* taps = llama_model_target_layer_ids(impl->draft_model.get());
  impl->taps.assign(taps, taps + 3);

  llama_context_params params = context_params(options);
  impl->target.reset(llama_init_from_model(impl->target_model.get(), params));
  params.ctx_other = impl->target.get();
  impl->draft.reset(llama_init_from_model(impl->draft_model.get(), params));
  if (!impl->target || !impl->draft) return Status::internal("cannot make the contexts");
  for (const int32_t tap : impl->taps) {
    llama_set_embeddings_layer_inp(impl->target.get(), static_cast<uint32_t>(tap), true);
  }
  llama_set_embeddings_nextn(impl->draft.get(), true, /*masked=*/true);
  return std::unique_ptr<LlamaDraft>(new LlamaDraft(std::move(impl)));
}

Result<LlamaDraft::TargetRows> LlamaDraft::run_target(std::span<const int32_t> tokens) {
  llama_context* context = impl_->target.get();
  if (tokens.size() > static_cast<size_t>(impl_->options.context)) {
    return Status::invalid("more tokens than the context holds");
  }
  llama_memory_clear(llama_get_memory(context), true);
  common_batch batch(context);
  for (size_t i = 0; i < tokens.size(); ++i) batch.add(tokens[i], static_cast<int>(i), 0, true);
  if (llama_process(context, LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) {
    return Status::internal("the target did not decode");
  }
  const size_t hidden = static_cast<size_t>(impl_->hidden);
  TargetRows rows;
  rows.taps.resize(tokens.size() * 3 * hidden);
  for (size_t tap = 0; tap < 3; ++tap) {
    const float* source =
        llama_get_embeddings_layer_inp(context, static_cast<uint32_t>(impl_->taps[tap]));
    for (size_t row = 0; row < tokens.size(); ++row) {
      std::copy_n(source + row * hidden, hidden, rows.taps.data() + (row * 3 + tap) * hidden);
    }
  }
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(impl_->target_model.get()));
  const float* logits = llama_get_logits(context);
  rows.logits.assign(logits, logits + tokens.size() * static_cast<size_t>(vocab));
  return rows;
}

Result<std::vector<float>> LlamaDraft::Impl::fuse(std::span<const float> rows, int count) {
  const size_t width = 3 * static_cast<size_t>(hidden);
  common_batch batch(draft.get());
  for (int i = 0; i < count; ++i) {
    const llama_pos position = i;
    batch.add_embd({rows.data() + static_cast<size_t>(i) * width, 1, width}, &position, 0, true);
  }
  if (llama_process(draft.get(), LLAMA_PROCESS_TYPE_ENCODE, batch.get()) != 0) {
    return Status::internal("the draft's encoder failed");
  }
  const float* g = llama_get_embeddings_nextn(draft.get());
  CHECK(g != nullptr);
  return std::vector<float>(g, g + static_cast<size_t>(count) * hidden);
}

Status LlamaDraft::Impl::fill(std::span<const int32_t> tokens, const float* g, int first) {
  if (tokens.empty()) return Status::ok();
  const size_t width = static_cast<size_t>(hidden);
  common_batch batch(draft.get());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t index = batch.add(tokens[i], first + static_cast<int>(i), 0, false);
    batch.set_embd(index, {g + i * width, 1, width});
  }
  if (llama_process(draft.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) {
    return Status::internal("the draft did not decode");
  }
  return Status::ok();
}

// A batch of its own: the eagle3 graph does not pick the output rows, so in a batch where only some
// rows are outputs llama.cpp would hand out the first rows as theirs.
Status LlamaDraft::Impl::step(int32_t token, const float* g, int position, Steps& out) {
  const size_t width = static_cast<size_t>(hidden);
  common_batch batch(draft.get());
  batch.set_embd(batch.add(token, position, 0, true), {g, 1, width});
  if (llama_process(draft.get(), LLAMA_PROCESS_TYPE_DECODE, batch.get()) != 0) {
    return Status::internal("the draft did not decode");
  }
  const float* all = llama_get_logits_ith(draft.get(), 0);
  const float* state = llama_get_embeddings_nextn_ith(draft.get(), 0);
  CHECK(all != nullptr && state != nullptr);
  std::vector<float>& logits = out.logits.emplace_back();
  for (const int64_t id : d2t) logits.push_back(all[id]);
  out.states.emplace_back(state, state + width);
  out.tokens.push_back(token);
  return Status::ok();
}

Result<LlamaDraft::Steps> LlamaDraft::draft(std::span<const float> taps,
                                            std::span<const int32_t> tokens, int position,
                                            int steps, std::span<const int32_t> forced) {
  const size_t rows = static_cast<size_t>(position) + 1;
  CHECK(position >= 0 && steps > 0 && tokens.size() >= rows + 1);
  CHECK(taps.size() >= rows * 3 * static_cast<size_t>(impl_->hidden));
  CHECK(forced.empty() || forced.size() + 1 >= static_cast<size_t>(steps));
  if (position + steps > impl_->options.context) {
    return Status::invalid("more rows than the context holds");
  }
  llama_memory_clear(llama_get_memory(impl_->draft.get()), true);
  auto g = impl_->fuse(taps, static_cast<int>(rows));
  if (!g) return g.status();
  if (Status s = impl_->fill(tokens.subspan(1, rows - 1), g->data(), 0); !s) return s;
  Steps out;
  std::vector<float> state(g->end() - impl_->hidden, g->end());
  int32_t token = tokens[rows];
  for (int k = 0; k < steps; ++k) {
    if (Status s = impl_->step(token, state.data(), position + k, out); !s) return s;
    state = out.states.back();
    const std::vector<float>& logits = out.logits.back();
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const size_t next = static_cast<size_t>(k);
    token = next < forced.size() ? forced[next] : static_cast<int32_t>(impl_->d2t[best]);
  }
  return out;
}

}  // namespace aurora
