// GGML_OP_FLASH_ATTN_EXT on the CPU by attention.h, and the positions of the cells behind each
// mask. The three hooks live in llama.cpp (third_party/llama.cpp/edits/65-attention.edit) and are
// null there: a program that does not call install_attention keeps llama.cpp's own attention.
#pragma once

#include <cstddef>
#include <cstdint>

struct ggml_compute_params;
struct ggml_tensor;

extern "C" {
// Called by every thread of an operation. False, to all of them alike: not ours, llama.cpp goes on.
extern bool (*aurora_flash_attention)(const ggml_compute_params* params, ggml_tensor* dst);
// Work memory of the operation, shared by its threads; asked when a graph is planned.
extern size_t (*aurora_flash_attention_bytes)(const ggml_tensor* dst, int threads);
// positions[stream * cells + cell], -1 for an empty cell, of a mask that has just been filled.
extern void (*aurora_attention_positions)(const void* mask, const int32_t* positions, int64_t cells,
                                          int64_t streams);
}

namespace aurora::attention {

// Before the first context is made. Any thread, any number of times.
void install_attention();
void uninstall_attention();  // for tests and comparisons; no graph may be running

// fp16 or fp32 keys and values, fp32 queries, dimensions that are multiples of 8; not ALiBi, not a
// mask for each head.
bool takes(const ggml_tensor* dst);

}  // namespace aurora::attention
