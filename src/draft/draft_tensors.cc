#include "draft/draft_tensors.h"

namespace aurora {

std::vector<DraftTensor> draft_tensors(const DraftShape& s, int64_t vocab) {
  const int64_t hidden = s.hidden;
  const int64_t q_rows = static_cast<int64_t>(s.heads) * s.head_dim;
  const int64_t kv_rows = static_cast<int64_t>(s.kv_heads) * s.head_dim;
  using W = DraftWeights;
  return {
      {"fc.weight", hidden, 3 * hidden, true, &W::fc},
      {"blk.0.attn_norm.weight", 1, hidden, false, &W::attn_norm},
      {"blk.0.attn_norm_2.weight", 1, hidden, false, &W::hidden_norm},
      {"blk.0.attn_q.weight", q_rows, 2 * hidden, true, &W::wq},
      {"blk.0.attn_k.weight", kv_rows, 2 * hidden, true, &W::wk},
      {"blk.0.attn_v.weight", kv_rows, 2 * hidden, true, &W::wv},
      {"blk.0.attn_output.weight", hidden, q_rows, true, &W::wo},
      {"blk.0.ffn_norm.weight", 1, hidden, false, &W::ffn_norm},
      {"blk.0.ffn_gate.weight", s.ff, hidden, true, &W::gate},
      {"blk.0.ffn_up.weight", s.ff, hidden, true, &W::up},
      {"blk.0.ffn_down.weight", hidden, s.ff, true, &W::down},
      {"output_norm.weight", 1, hidden, false, &W::output_norm},
      {"output.weight", vocab, hidden, true, &W::output},
      // A head may bring its own embedding, RoPE factors (llama3), and a norm before fc.
      {"token_embd.weight", s.target_vocab, hidden, true, nullptr, true},
      {"rope_freqs.weight", 1, s.head_dim / 2, false, nullptr, true},
      {"enc.output_norm.weight", 1, 3 * hidden, false, nullptr, true},
  };
}

}  // namespace aurora
