// Any bytes as a draft file: check and reader must neither crash nor differ about what a draft is.
#include <cstdint>

#include "base/check.h"
#include "draft/draft_check.h"
#include "draft/draft_file.h"
#include "memory_file.h"

// The target of tests/draft/draft_file_maker.h, so that its files are seeds that pass.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const aurora::MemoryFile file(data, size);
  const aurora::DraftTarget target{.hidden = 64, .vocab = 50, .layers = 6, .tokenizer = {}};
  const auto info = aurora::check_draft_file(file.path(), target);
  const auto weights = aurora::read_draft_file(file.path());
  (void)aurora::tokenizer_digest(file.path());
  if (!info) return 0;
  // What may serve is read, or is of a variant that the trainer says it cannot train.
  CHECK(weights || weights.status().code() == aurora::StatusCode::kInvalid);
  if (weights) CHECK(weights->shape.hidden == info->shape.hidden);
  return 0;
}
