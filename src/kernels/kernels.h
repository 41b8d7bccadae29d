// Our matrix products inside llama.cpp: a buffer type of ggml's CPU backend that packs weights when
// they are loaded.
//
// One arithmetic for every batch size, thread count and instruction set: the logits of a position
// are the same bits alone, in a verify batch and in a prompt. Stock kernels sum a batch of one
// differently from a batch of many.
#pragma once

#include <ggml.h>

#include <string>

namespace aurora::kernels {

// Puts the buffer type into ggml's list. Once, before the first model is loaded or a backend is
// used.
void install();

// Whether models loaded from now on get our buffers, and whether attention runs on our kernel. On
// after install(), where this CPU has a fast backend. For benches that compare; not to be called
// while a model loads or a graph runs.
void set_enabled(bool enabled);
bool enabled();

// Whether a matrix of this type gets our buffer.
bool takes(ggml_type type);

// "avx512-vnni", "avx-vnni", "avx2" or "portable".
std::string backend_name();

}  // namespace aurora::kernels
