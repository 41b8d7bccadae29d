// ggml's two matrix products, MUL_MAT and MUL_MAT_ID, on weights that we have packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "ggml-cpu/traits.h"
#include "ggml.h"
#include "kernels/product.h"

namespace aurora::kernels {

std::optional<WeightType> weight_type(ggml_type type);

// Whether we have a layout for it: [columns, rows], or [columns, rows, experts].
bool packable(const ggml_tensor* weights);

// Whether ours can take the place of ggml's in this operation, wherever its tensors lie.
bool computes(const ggml_tensor* op);

// Bytes of all experts' packed panels; the panels of one are a Matrix. A plain matrix is one
// expert.
size_t packed_bytes(const ggml_tensor* weights);
Matrix matrix_of(const ggml_tensor* weights, int64_t expert = 0);

// The operation of a tensor that lies packed.
ggml::cpu::tensor_traits* product_traits();

}  // namespace aurora::kernels
