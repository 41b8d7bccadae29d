// The seam to ggml: buffer type (where weights are packed) and operation (where they are
// multiplied).
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"
#include "kernels/attention_op.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/product.h"

// Defined in ggml-cpu.cpp by our edit; null in a program that does not install it.
extern ggml_backend_buffer_type_t (*aurora_extra_buffer_type)();

namespace aurora::kernels {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kPanelsPerThreadMin = 16;  // below it packing is not worth a thread
constexpr int kChunksPerThread =
    8;  // of a product, so that a slow thread does not hold up the others

std::atomic<bool> on{false};

std::optional<WeightType> weight_type(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0: return WeightType::kQ4_0;
    case GGML_TYPE_Q4_1: return WeightType::kQ4_1;
    case GGML_TYPE_Q5_0: return WeightType::kQ5_0;
    case GGML_TYPE_Q5_1: return WeightType::kQ5_1;
    case GGML_TYPE_Q8_0: return WeightType::kQ8_0;
    case GGML_TYPE_Q4_K: return WeightType::kQ4_K;
    case GGML_TYPE_Q5_K: return WeightType::kQ5_K;
    case GGML_TYPE_Q6_K: return WeightType::kQ6_K;
    case GGML_TYPE_F16: return WeightType::kF16;
    case GGML_TYPE_BF16: return WeightType::kBF16;
    default: return std::nullopt;
  }
}

bool packable(const ggml_tensor* weights) {
  const auto type = weight_type(weights->type);
  return type && ggml_n_dims(weights) == 2 && weights->ne[0] % format_of(*type).unit_columns() == 0;
}

Matrix matrix_of(const ggml_tensor* weights) {
  return {*weight_type(weights->type), weights->ne[1], weights->ne[0],
          static_cast<const uint8_t*>(weights->data)};
}

// Where token i of the right-hand side begins.
const float* token_row(const ggml_tensor* in, int64_t i) {
  const auto i1 = static_cast<size_t>(i % in->ne[1]);
  const auto i2 = static_cast<size_t>(i / in->ne[1] % in->ne[2]);
  const auto i3 = static_cast<size_t>(i / in->ne[1] / in->ne[2]);
  return reinterpret_cast<const float*>(static_cast<const char*>(in->data) + i1 * in->nb[1] +
                                        i2 * in->nb[2] + i3 * in->nb[3]);
}

class Product final : public ggml::cpu::tensor_traits {
 public:
  bool work_size(int, const ggml_tensor* op, size_t& size) override {
    if (op->op != GGML_OP_MUL_MAT) return false;
    const Matrix matrix = matrix_of(op->src[0]);
    size = activation_bytes(matrix.type, ggml_nrows(op->src[1]), matrix.columns);
    return true;
  }

  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    if (op->op != GGML_OP_MUL_MAT) return false;
    const Matrix matrix = matrix_of(op->src[0]);
    const int64_t tokens = ggml_nrows(op->src[1]);
    const int64_t blocks = matrix.columns / kBlock;
    const int64_t first = blocks * params->ith / params->nth * kBlock;
    const int64_t last = blocks * (params->ith + 1) / params->nth * kBlock;
    for (int64_t i = 0; i < tokens; ++i) {
      round_token(backend(), matrix, i, tokens, token_row(op->src[1], i), first, last,
                  params->wdata);
    }
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);
    multiply(params, matrix, tokens, op);
    return true;
  }

 private:
  // Threads take chunks of panels as they get done; which thread takes which has no effect on the
  // sums.
  static void multiply(const ggml_compute_params* params, const Matrix& matrix, int64_t tokens,
                       ggml_tensor* op) {
    const int64_t panels = matrix.panels();
    const int64_t chunks =
        std::min<int64_t>(panels, params->nth == 1 ? 1 : params->nth * kChunksPerThread);
    const auto stride = static_cast<int64_t>(op->nb[1] / sizeof(float));
    for (int64_t c = params->ith; c < chunks;
         c = ggml_threadpool_chunk_add(params->threadpool, 1)) {
      multiply_panels(backend(), matrix, params->wdata, tokens, panels * c / chunks,
                      panels * (c + 1) / chunks, static_cast<float*>(op->data), stride);
    }
  }
};

class BufferType final : public ggml::cpu::extra_buffer_type {
 public:
  // Asked before loading, with a tensor that has no data yet, and again for every operation of a
  // graph.
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override;
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override;
};

ggml_backend_buffer_type_t buffer_type();

bool ours(const ggml_tensor* tensor) {
  return tensor && tensor->buffer && tensor->buffer->buft == buffer_type();
}

bool BufferType::supports_op(ggml_backend_dev_t, const ggml_tensor* op) {
  if (op->op != GGML_OP_MUL_MAT || !ours(op->src[0]) || !packable(op->src[0])) return false;
  if (op->src[0]->extra == nullptr && !enabled()) return false;
  const ggml_tensor* in = op->src[1];
  if (in->buffer && !ggml_backend_buft_is_host(in->buffer->buft)) return false;
  return in->type == GGML_TYPE_F32;
}

ggml::cpu::tensor_traits* BufferType::get_tensor_traits(const ggml_tensor* op) {
  if (op->op != GGML_OP_MUL_MAT || !ours(op->src[0])) return nullptr;
  return static_cast<ggml::cpu::tensor_traits*>(op->src[0]->extra);
}

void pack(const Matrix& matrix, const uint8_t* file, uint8_t* packed) {
  const int64_t panels = matrix.panels();
  const int64_t most = std::max<int64_t>(1, panels / kPanelsPerThreadMin);
  const int64_t threads =
      std::min<int64_t>(most, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::jthread> running;
  for (int64_t t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      pack_panels(matrix.type, file, matrix.rows, matrix.columns, panels * t / threads,
                  panels * (t + 1) / threads, packed);
    });
  }
}

// Of the whole pages inside. Advice: where the system does not know it, nothing changes.
void advise(void* data, size_t size, int advice) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

// Every step reads all weights once. In pages of 4 KiB that is a TLB miss for each few panels, and
// where the pages happen to lie makes one process up to a fifth slower than the next
// (docs/results/verification.md).
void ask_for_huge_pages(void* data, size_t size) {
#if defined(MADV_HUGEPAGE)
  advise(data, size, MADV_HUGEPAGE);
#else
  (void)data, (void)size;
#endif
}

// The pages of a mapped file that have been packed are not needed again: the kernel may take them
// back at once. Pages that are not a file's keep what they hold.
void release_pages(const void* data, size_t size) {
#if defined(MADV_PAGEOUT)
  advise(const_cast<void*>(data), size, MADV_PAGEOUT);
#else
  (void)data, (void)size;
#endif
}

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor* tensor) {
  static Product product;
  tensor->extra = packable(tensor) ? &product : nullptr;
  return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset,
                size_t size) {
  GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor));
  pack(matrix_of(tensor), static_cast<const uint8_t*>(data), static_cast<uint8_t*>(tensor->data));
  release_pages(data, size);
}

size_t alloc_size(ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
  if (!packable(tensor)) return ggml_nbytes(tensor);
  const Matrix matrix = matrix_of(tensor);
  return packed_bytes(matrix.type, matrix.rows, matrix.columns);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
  ggml_backend_buffer_t buffer =
      ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
  if (buffer == nullptr) return nullptr;
  ask_for_huge_pages(ggml_backend_buffer_get_base(buffer), size);
  buffer->buft = type;
  buffer->iface.init_tensor = init_tensor;
  buffer->iface.set_tensor = set_tensor;
  buffer->iface.get_tensor = nullptr;
  buffer->iface.cpy_tensor = nullptr;
  return buffer;
}

ggml_backend_buffer_type_t buffer_type() {
  static BufferType context;
  static ggml_backend_buffer_type type = {
      {[](ggml_backend_buffer_type_t) { return "AURORA"; }, alloc_buffer,
       [](ggml_backend_buffer_type_t) { return kAlignment; }, nullptr, alloc_size, nullptr},
      ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
      &context,
  };
  return &type;
}

}  // namespace

void install() {
  aurora_extra_buffer_type = buffer_type;
  set_enabled(&backend() != &portable_backend());
}

void set_enabled(bool enabled) {
  on = enabled;
  if (enabled) attention::install_attention();
  else attention::uninstall_attention();
}

bool takes(ggml_type type) { return weight_type(type).has_value(); }
bool enabled() { return on; }
std::string backend_name() { return backend().name; }

}  // namespace aurora::kernels
