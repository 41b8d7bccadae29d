// From a tensor as a GGUF file holds it to the panels of format.h.
#pragma once

#include <cstdint>

#include "kernels/format.h"

namespace aurora::kernels {

// Bytes of one row in the file.
int64_t file_row_bytes(WeightType type, int64_t columns);

// Packs panels [first, last) of a rows x columns matrix: `file` is the whole matrix row by row as
// in a GGUF file, `packed` has packed_bytes(type, rows, columns). columns must be a multiple of the
// type's unit. Touches no other panel, so threads may share the panels of one matrix among them.
void pack_panels(WeightType type, const uint8_t* file, int64_t rows, int64_t columns, int64_t first,
                 int64_t last, uint8_t* packed);

}  // namespace aurora::kernels
