#include "kernels/product_op.h"

#include <algorithm>

#include "ggml-cpu-impl.h"
#include "kernels/expert_routes.h"

namespace aurora::kernels {
namespace {

constexpr int kChunksPerThread =
    8;  // of a product, so that a slow thread does not hold up the others

// Floats of one row, which in ggml's operations lie side by side.
const float* float_row(const ggml_tensor* tensor, int64_t i1, int64_t i2, int64_t i3 = 0) {
  return reinterpret_cast<const float*>(
      static_cast<const char*>(tensor->data) + static_cast<size_t>(i1) * tensor->nb[1] +
      static_cast<size_t>(i2) * tensor->nb[2] + static_cast<size_t>(i3) * tensor->nb[3]);
}

// Where token i of the right-hand side begins.
const float* token_row(const ggml_tensor* in, int64_t i) {
  return float_row(in, i % in->ne[1], i / in->ne[1] % in->ne[2], i / in->ne[1] / in->ne[2]);
}

// The columns that this thread rounds, of every token.
struct Columns {
  int64_t first, last;
};

Columns columns_of(const ggml_compute_params* params, const Matrix& matrix) {
  const int64_t blocks = matrix.columns / kBlock;
  return {blocks * params->ith / params->nth * kBlock,
          blocks * (params->ith + 1) / params->nth * kBlock};
}

// Every thread has rounded its part. The counter of chunks begins with one for each thread.
void meet(const ggml_compute_params* params) {
  if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
  ggml_barrier(params->threadpool);
}

// Threads take chunks as they get done; which thread takes which has no effect on the sums.
template <class Work>
void share(const ggml_compute_params* params, int64_t chunks, const Work& work) {
  for (int64_t c = params->ith; c < chunks; c = ggml_threadpool_chunk_add(params->threadpool, 1))
    work(c);
}

// MUL_MAT: every token times one matrix.
void multiply(const ggml_compute_params* params, ggml_tensor* op) {
  const Matrix matrix = matrix_of(op->src[0]);
  const int64_t tokens = ggml_nrows(op->src[1]);
  const auto [first, last] = columns_of(params, matrix);
  for (int64_t i = 0; i < tokens; ++i) {
    round_token(backend(), matrix, i, tokens, token_row(op->src[1], i), first, last, params->wdata);
  }
  meet(params);
  const int64_t panels = matrix.panels();
  const int64_t chunks =
      std::min<int64_t>(panels, params->nth == 1 ? 1 : params->nth * kChunksPerThread);
  const auto stride = static_cast<int64_t>(op->nb[1] / sizeof(float));
  share(params, chunks, [&](int64_t c) {
    multiply_panels(backend(), matrix, params->wdata, tokens, panels * c / chunks,
                    panels * (c + 1) / chunks, {static_cast<float*>(op->data), stride});
  });
}

// MUL_MAT_ID, out[:, choice, token] = matrix[ids[choice, token]] * in[:, choice or 0, token]. Each
// thread sorts the rows for itself, which is cheaper than to wait for one that does.
class ExpertProduct {
 public:
  static size_t work_bytes(int threads, const ggml_tensor* op) {
    return static_cast<size_t>(threads) * routes_bytes(op) +
           activation_bytes(matrix_of(op->src[0]).type, rows_of(op), op->src[0]->ne[0]);
  }

  ExpertProduct(const ggml_compute_params* params, ggml_tensor* op)
      : params_(params),
        op_(op),
        matrix_(matrix_of(op->src[0])),
        routes_(
            static_cast<char*>(params->wdata) + static_cast<size_t>(params->ith) * routes_bytes(op),
            op->src[0]->ne[2], rows_of(op), [&](int64_t row) { return expert_of(op, row); }),
        activations_(static_cast<char*>(params->wdata) +
                     static_cast<size_t>(params->nth) * routes_bytes(op)) {}

  void run() {
    const int64_t choices = op_->ne[1];
    const auto [first, last] = columns_of(params_, matrix_);
    for (const int32_t expert : routes_.busy()) {
      const int64_t begin = routes_.begin(expert), count = routes_.count(expert);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = routes_.rows()[static_cast<size_t>(begin + i)];
        const int64_t choice = row % choices, token = row / choices;
        const float* values = float_row(op_->src[1], choice % op_->src[1]->ne[1], token);
        round_token(backend(), matrix_, i, count, values, first, last, rounded(begin));
        routes_.offsets()[static_cast<size_t>(begin + i)] =
            float_row(op_, choice, token) - static_cast<const float*>(op_->data);
      }
    }
    meet(params_);
    const auto busy = static_cast<int64_t>(routes_.busy().size());
    const int64_t chunks = chunks_of_expert(busy);
    share(params_, busy * chunks, [&](int64_t c) {
      multiply_chunk(routes_.busy()[static_cast<size_t>(c / chunks)], c % chunks, chunks);
    });
  }

 private:
  static int64_t rows_of(const ggml_tensor* op) { return op->ne[1] * op->ne[2]; }
  static size_t routes_bytes(const ggml_tensor* op) {
    return ExpertRoutes::bytes(op->src[0]->ne[2], rows_of(op));
  }
  static int64_t expert_of(const ggml_tensor* op, int64_t row) {
    const ggml_tensor* ids = op->src[2];
    const char* id = static_cast<const char*>(ids->data) +
                     static_cast<size_t>(row % op->ne[1]) * ids->nb[0] +
                     static_cast<size_t>(row / op->ne[1]) * ids->nb[1];
    const int32_t expert = *reinterpret_cast<const int32_t*>(id);
    GGML_ASSERT(expert >= 0 && expert < op->src[0]->ne[2]);
    return expert;
  }

  void* rounded(int64_t begin) const {
    return activations_ + activation_bytes(matrix_.type, begin, matrix_.columns);
  }

  // As many as leave every thread its share, however few experts there are.
  int64_t chunks_of_expert(int64_t busy) const {
    if (params_->nth == 1) return 1;
    const int64_t wanted = (params_->nth * kChunksPerThread + busy - 1) / busy;
    return std::min(matrix_.panels(), wanted);
  }

  void multiply_chunk(int64_t expert, int64_t chunk, int64_t chunks) const {
    const Matrix matrix = matrix_of(op_->src[0], expert);
    const int64_t panels = matrix.panels(), begin = routes_.begin(expert);
    multiply_panels(
        backend(), matrix, rounded(begin), routes_.count(expert), panels * chunk / chunks,
        panels * (chunk + 1) / chunks,
        {.first = static_cast<float*>(op_->data), .offsets = routes_.offsets().data() + begin});
  }

  const ggml_compute_params* params_;
  ggml_tensor* op_;
  const Matrix matrix_;  // of the first expert: the others have its shape
  const ExpertRoutes routes_;
  char* activations_;
};

class ProductTraits final : public ggml::cpu::tensor_traits {
 public:
  bool work_size(int threads, const ggml_tensor* op, size_t& size) override {
    if (op->op == GGML_OP_MUL_MAT) {
      const Matrix matrix = matrix_of(op->src[0]);
      size = activation_bytes(matrix.type, ggml_nrows(op->src[1]), matrix.columns);
      return true;
    }
    if (op->op != GGML_OP_MUL_MAT_ID) return false;
    size = ExpertProduct::work_bytes(threads, op);
    return true;
  }

  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    if (op->op == GGML_OP_MUL_MAT) multiply(params, op);
    else if (op->op == GGML_OP_MUL_MAT_ID) ExpertProduct(params, op).run();
    else return false;
    return true;
  }
};

}  // namespace

std::optional<WeightType> weight_type(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0: return WeightType::kQ4_0;
    case GGML_TYPE_Q4_1: return WeightType::kQ4_1;
    case GGML_TYPE_Q5_0: return WeightType::kQ5_0;
    case GGML_TYPE_Q5_1: return WeightType::kQ5_1;
    case GGML_TYPE_Q8_0: return WeightType::kQ8_0;
    case GGML_TYPE_Q2_K: return WeightType::kQ2_K;
    case GGML_TYPE_Q3_K: return WeightType::kQ3_K;
    case GGML_TYPE_Q4_K: return WeightType::kQ4_K;
    case GGML_TYPE_Q5_K: return WeightType::kQ5_K;
    case GGML_TYPE_Q6_K: return WeightType::kQ6_K;
    case GGML_TYPE_IQ4_NL: return WeightType::kIQ4_NL;
    case GGML_TYPE_IQ4_XS: return WeightType::kIQ4_XS;
    case GGML_TYPE_MXFP4: return WeightType::kMXFP4;
    case GGML_TYPE_F16: return WeightType::kF16;
    case GGML_TYPE_BF16: return WeightType::kBF16;
    case GGML_TYPE_F32: return WeightType::kF32;
    default: return std::nullopt;
  }
}

bool packable(const ggml_tensor* weights) {
  const auto type = weight_type(weights->type);
  return type && weights->ne[1] > 1 && weights->ne[3] == 1 &&
         weights->ne[0] % format_of(*type).unit_columns() == 0;
}

bool computes(const ggml_tensor* op) {
  const ggml_tensor* weights = op->src[0];
  const bool product = op->op == GGML_OP_MUL_MAT && weights->ne[2] == 1;
  if (!product && op->op != GGML_OP_MUL_MAT_ID) return false;
  return packable(weights) && op->src[1]->type == GGML_TYPE_F32;
}

size_t packed_bytes(const ggml_tensor* weights) {
  const Matrix matrix = matrix_of(weights);
  return static_cast<size_t>(weights->ne[2]) *
         packed_bytes(matrix.type, matrix.rows, matrix.columns);
}

Matrix matrix_of(const ggml_tensor* weights, int64_t expert) {
  const WeightType type = *weight_type(weights->type);
  const size_t bytes = packed_bytes(type, weights->ne[1], weights->ne[0]);
  return {type, weights->ne[1], weights->ne[0],
          static_cast<const uint8_t*>(weights->data) + static_cast<size_t>(expert) * bytes};
}

ggml::cpu::tensor_traits* product_traits() {
  static ProductTraits traits;
  return &traits;
}

}  // namespace aurora::kernels
