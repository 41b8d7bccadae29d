// What the trainer reads from the target's GGUF: shape, token embedding, head and last layer.
// Memory-mapped; rows are dequantised on demand, so a 1.5B target costs the trainer a few MiB.
// Thread-safe after open. No LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "draft/draft_weights.h"

namespace aurora {

class TargetWeights {
 public:
  // A split model by any of its parts. invalid: not a GGUF, or without what every draft needs:
  // width, layers, context, an embedding and a head of that width.
  static Result<std::unique_ptr<TargetWeights>> open(const std::string& path);
  ~TargetWeights();

  const DraftShape& shape() const;                // tap_layers filled by default_tap_layers()
  const std::string& architecture() const;        // "llama", "qwen2", ...
  const std::string& path() const;                // of a split model, the first part's
  const std::vector<std::string>& notes() const;  // what initial_draft leaves out, a sentence each

  // out: [ids, D] fp32.
  Status token_rows(std::span<const int32_t> ids, float* out) const;  // token embedding
  Status head_rows(std::span<const int64_t> ids,
                   float* out) const;  // output head (tied: the embedding)

  // A draft that starts as the target's last layer: fc = [0 0 I], q/k/v = [0 | W], MLP, norms and
  // head rows copied; see layer_copy.h for what is not alike. q and k rows of NEOX-rope
  // architectures (qwen2 ...) are permuted to the interleaved order.
  Result<DraftWeights> initial_draft(std::span<const int64_t> draft_vocab) const;

 private:
  struct Impl;
  explicit TargetWeights(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aurora
