#include "kernels/attention_op.h"

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ggml-cpu/ggml-cpu-impl.h"
#include "kernels/attention.h"

namespace aurora::attention {
namespace {

constexpr size_t kMasksMax = 256;  // masks with known positions; beyond, the oldest is forgotten
constexpr size_t kPlansMax =
    4;  // kept by a thread: a target's and a draft's, each with a windowed mask
constexpr size_t kPlanMaskValuesMax =
    1 << 18;  // larger masks (prompts) are read anew by every operation

struct Positions {
  std::vector<int32_t> values;
  int64_t cells;
  int64_t streams;
};
using PositionsPtr = std::shared_ptr<const Positions>;

// Positions by mask address. Contexts decode on threads of their own: each fills its mask before
// its graph runs, so an entry does not change while its mask is in use.
class PositionTable {
 public:
  void put(const void* mask, PositionsPtr positions) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[mask];
    entry = {std::move(positions), ++clock_};
    if (entries_.size() > kMasksMax) forget_oldest();
    version_.store(clock_, std::memory_order_release);
  }

  PositionsPtr find(const void* mask) const {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(mask);
    return found == entries_.end() ? nullptr : found->second.positions;
  }

  // Another number after each put.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  struct Entry {
    PositionsPtr positions;
    uint64_t time = 0;
  };

  void forget_oldest() {
    auto oldest = entries_.begin();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->second.time < oldest->second.time) oldest = at;
    }
    entries_.erase(oldest);
  }

  mutable std::mutex mutex_;
  std::unordered_map<const void*, Entry> entries_;
  uint64_t clock_ = 0;
  std::atomic<uint64_t> version_ = 0;
};

PositionTable& position_table() {
  static PositionTable table;
  return table;
}

void remember_positions(const void* mask, const int32_t* positions, int64_t cells,
                        int64_t streams) {
  position_table().put(mask, std::make_shared<const Positions>(Positions{
                                 {positions, positions + cells * streams}, cells, streams}));
}

float parameter(const ggml_tensor* dst, int index) {
  float value;
  std::memcpy(&value, dst->op_params + index, sizeof value);
  return value;
}

int heads_per_kv(const ggml_tensor* dst) {
  return static_cast<int>(dst->src[0]->ne[2] / dst->src[1]->ne[2]);
}

MaskView mask_view(const ggml_tensor* dst) {
  const ggml_tensor* q = dst->src[0];
  const ggml_tensor* mask = dst->src[3];
  MaskView view;
  view.rows = static_cast<int>(q->ne[1]);
  view.cells = static_cast<int>(dst->src[1]->ne[1]);
  view.streams = static_cast<int>(q->ne[3]);
  if (mask == nullptr) return view;
  view.values = static_cast<const uint16_t*>(mask->data);
  view.row_stride = mask->nb[1] / sizeof(uint16_t);
  view.stream_stride = mask->ne[3] == 1 ? 0 : mask->nb[3] / sizeof(uint16_t);
  return view;
}

// A thread's plan for one mask. A graph has the same mask in every layer: the plan is made in the
// first one, the others compare the mask with a copy, so an address that another mask has taken
// over does no harm.
struct CachedPlan {
  bool matches(const MaskView& mask, int heads) const {
    if (mask.values != view.values || mask.rows != view.rows || mask.cells != view.cells ||
        mask.streams != view.streams || mask.stream_stride != view.stream_stride ||
        heads != plan.heads_per_kv) {
      return false;
    }
    return for_each_row(mask, [this](size_t index, const uint16_t* row) {
      return std::memcmp(&copy[index], row, view.cells * sizeof(uint16_t)) == 0;
    });
  }

  bool make(const MaskView& mask, int heads) {
    const int64_t cells = static_cast<int64_t>(mask.cells);
    const bool known =
        positions != nullptr && positions->cells == cells && positions->streams == mask.streams;
    view = mask;
    view.positions = known ? positions->values.data() : nullptr;
    copy.clear();
    for_each_row(mask, [this](size_t, const uint16_t* row) {
      copy.insert(copy.end(), row, row + view.cells);
      return true;
    });
    valid = make_plan(view, heads, plan);
    return valid;
  }

  template <typename Visit>
  static bool for_each_row(const MaskView& mask, Visit visit) {
    if (mask.values == nullptr) return true;
    size_t index = 0;
    for (int stream = 0; stream < mask.streams; ++stream) {
      for (int row = 0; row < mask.rows; ++row, index += mask.cells) {
        if (!visit(index, mask.values + stream * mask.stream_stride + row * mask.row_stride))
          return false;
      }
    }
    return true;
  }

  MaskView view;
  PositionsPtr positions;
  uint64_t version = 0;  // of the position table when it was asked
  uint64_t used = 0;
  bool valid = false;
  std::vector<uint16_t> copy;
  Plan plan;
};

// nullptr: the mask is not of our kind. Good until the thread's next call.
const Plan* plan_for(const MaskView& mask, int heads) {
  thread_local std::array<CachedPlan, kPlansMax> plans;
  thread_local uint64_t clock = 0;
  CachedPlan* best = &plans[0];
  for (CachedPlan& plan : plans) {
    if (plan.used != 0 && plan.view.values == mask.values) {
      best = &plan;
      break;
    }
    if (plan.used < best->used) best = &plan;
  }
  const bool same_mask = best->used != 0 && best->view.values == mask.values;
  best->used = ++clock;
  const uint64_t version = position_table().version();
  bool fresh = same_mask;
  if (!same_mask || version != best->version) {
    PositionsPtr positions = position_table().find(mask.values);
    fresh = same_mask && positions == best->positions;
    best->positions = std::move(positions);
    best->version = version;
  }
  const size_t values = static_cast<size_t>(mask.rows) * mask.cells * mask.streams;
  const bool small = values <= kPlanMaskValuesMax;
  if (!fresh || !small || !best->matches(mask, heads)) best->make(mask, heads);
  if (!small) best->copy = {};
  return best->valid ? &best->plan : nullptr;
}

Rows rows_of(const ggml_tensor* tensor) {
  return {static_cast<const std::byte*>(tensor->data), tensor->nb[1], tensor->nb[2], tensor->nb[3],
          tensor->type == GGML_TYPE_F16};
}

Call call_of(const ggml_tensor* dst, const Plan* plan) {
  const ggml_tensor* q = dst->src[0];
  Call call;
  call.queries = rows_of(q);
  call.keys = rows_of(dst->src[1]);
  call.values = rows_of(dst->src[2]);
  call.out = {static_cast<std::byte*>(dst->data), dst->nb[2], dst->nb[1], dst->nb[3]};
  call.sinks = dst->src[4] == nullptr ? nullptr : static_cast<const float*>(dst->src[4]->data);
  call.kv_heads = static_cast<int>(dst->src[1]->ne[2]);
  call.query_rows = static_cast<int>(q->ne[1]);
  call.cells = static_cast<int>(dst->src[1]->ne[1]);
  call.key_dim = static_cast<int>(q->ne[0]);
  call.value_dim = static_cast<int>(dst->src[2]->ne[0]);
  call.scale = parameter(dst, 0);
  call.softcap = parameter(dst, 2);
  call.plan = plan;
  return call;
}

size_t bytes_needed(const ggml_tensor* dst, int threads) {
  if (!takes(dst)) return 0;
  const ggml_tensor* q = dst->src[0];
  return work_bytes(
      {static_cast<int>(q->ne[1]) * heads_per_kv(dst), static_cast<int>(dst->src[1]->ne[1]),
       static_cast<int>(q->ne[0]), static_cast<int>(dst->src[2]->ne[0])},
      threads);
}

bool compute(const ggml_compute_params* params, ggml_tensor* dst) {
  if (params->use_ref || !takes(dst)) return false;
  if (params->wsize < bytes_needed(dst, params->nth))
    return false;  // planned before install_attention
  const Plan* plan = plan_for(mask_view(dst), heads_per_kv(dst));
  if (plan == nullptr) return false;
  const Call call = call_of(dst, plan);
  const Worker worker = {params->ith, params->nth, static_cast<std::byte*>(params->wdata)};
  static const AttentionKernels& kernels = best_kernels();
  if (attend(call, kernels, worker)) {
    ggml_barrier(params->threadpool);
    attend_shared(call, kernels, worker);
  }
  return true;
}

bool rows_fit(const ggml_tensor* tensor) {
  const bool known = tensor->type == GGML_TYPE_F16 || tensor->type == GGML_TYPE_F32;
  return known && tensor->nb[0] == ggml_type_size(tensor->type) && tensor->ne[0] % 8 == 0 &&
         tensor->ne[0] <= kDimMax;
}

}  // namespace

bool takes(const ggml_tensor* dst) {
  const ggml_tensor* q = dst->src[0];
  const ggml_tensor* k = dst->src[1];
  const ggml_tensor* v = dst->src[2];
  const ggml_tensor* mask = dst->src[3];
  if (q->type != GGML_TYPE_F32 || !rows_fit(q) || !rows_fit(k) || !rows_fit(v)) return false;
  if (parameter(dst, 1) > 0) return false;  // ALiBi
  const bool shapes = q->ne[0] == k->ne[0] && k->ne[1] == v->ne[1] && k->ne[2] == v->ne[2] &&
                      q->ne[2] % k->ne[2] == 0 && k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3];
  if (!shapes || mask == nullptr) return shapes;
  return mask->type == GGML_TYPE_F16 && mask->nb[0] == sizeof(uint16_t) && mask->ne[2] == 1 &&
         (mask->ne[3] == 1 || mask->ne[3] == q->ne[3]) && mask->ne[0] >= k->ne[1] &&
         mask->ne[1] >= q->ne[1];
}

void install_attention() {
  aurora_attention_positions = remember_positions;
  aurora_flash_attention_bytes = bytes_needed;
  aurora_flash_attention = compute;
}

void uninstall_attention() {
  aurora_flash_attention = nullptr;
  aurora_flash_attention_bytes = nullptr;
  aurora_attention_positions = nullptr;
}

}  // namespace aurora::attention
