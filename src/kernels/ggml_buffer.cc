// The seam to ggml: a buffer type, in which weights are packed while they are loaded.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"
#include "kernels/attention_op.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/product_op.h"

// Defined in ggml-cpu.cpp by our edit; null in a program that does not install it.
extern ggml_backend_buffer_type_t (*aurora_extra_buffer_type)();

namespace aurora::kernels {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kPanelsPerThreadMin = 16;  // below it packing is not worth a thread

std::atomic<bool> on{false};

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
  if (!ours(op->src[0]) || !computes(op)) return false;
  if (op->src[0]->extra == nullptr && !enabled()) return false;
  const ggml_tensor* in = op->src[1];
  return in->buffer == nullptr || ggml_backend_buft_is_host(in->buffer->buft);
}

ggml::cpu::tensor_traits* BufferType::get_tensor_traits(const ggml_tensor* op) {
  if (!op->src[0] || !ours(op->src[0]) || !computes(op)) return nullptr;
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
  tensor->extra = packable(tensor) ? product_traits() : nullptr;
  return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset,
                size_t size) {
  GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor));
  const Matrix first = matrix_of(tensor);
  const auto file_bytes =
      static_cast<size_t>(first.rows * file_row_bytes(first.type, first.columns));
  for (int64_t expert = 0; expert < tensor->ne[2]; ++expert) {
    const Matrix matrix = matrix_of(tensor, expert);
    pack(matrix, static_cast<const uint8_t*>(data) + static_cast<size_t>(expert) * file_bytes,
         const_cast<uint8_t*>(matrix.data));
  }
  release_pages(data, size);
}

size_t alloc_size(ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
  return packable(tensor) ? packed_bytes(tensor) : ggml_nbytes(tensor);
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
