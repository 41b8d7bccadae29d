#include "train/torch_scorer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>

#include "train/eagle3_forward.h"

namespace aurora {
namespace {

using at::Tensor;

// Matches of the argmax with the served tokens, as long as they lead. Only columns whose steps so
// far all matched go on.
std::vector<Leads> count_leads(const Eagle3& draft, const PackedBatch& batch, int depth) {
  const at::NoGradGuard no_grad;
  const BatchTensors tensors = to_tensors(batch, draft.shape, at::kFloat);
  Eagle3Forward forward(draft, batch, tensors);
  const auto queries = static_cast<size_t>(batch.queries);
  std::vector<uint8_t> lead(queries, 0);
  for (size_t k = 0; k < static_cast<size_t>(depth); ++k) {
    const Tensor states = forward.next();
    std::vector<int64_t> matched;
    for (int64_t begin = 0; begin < states.size(0); begin += 256) {
      const Tensor rows = states.narrow(0, begin, std::min<int64_t>(256, states.size(0) - begin));
      const Tensor best = at::linear(rows, draft[kOutput]).argmax(-1).contiguous();
      const auto* ids = best.data_ptr<int64_t>();
      for (int64_t j = 0; j < rows.size(0); ++j) {
        const auto q = static_cast<size_t>(forward.columns()[static_cast<size_t>(begin + j)]);
        const int64_t law = batch.query_law[k * queries + q];
        if (law < 0 || batch.served[static_cast<size_t>(law)] != ids[j]) continue;
        ++lead[q];
        matched.push_back(begin + j);
      }
    }
    if (matched.empty() || k + 1 == static_cast<size_t>(depth)) break;
    forward.keep(matched);
  }
  std::vector<Leads> out;
  for (const PackedRequest& r : batch.requests)
    out.emplace_back(lead.begin() + r.query0, lead.begin() + r.query0 + r.queries);
  return out;
}

class TorchScorer final : public Scorer {
 public:
  TorchScorer(const DraftWeights& draft, const TargetRows& rows, const LearnOptions& options)
      : draft_(eagle3_from(draft, at::kFloat)),
        vocab_(index_vocab(draft.d2t)),
        rows_(rows),
        options_(options) {
    draft_.bf16 = options.bf16;
  }
  Result<std::vector<Leads>> leads(RecordRefs records, int depth) override {
    return guarded("score", [&]() -> Result<std::vector<Leads>> {
      return score(draft_, vocab_, rows_, records, options_, depth);
    });
  }

 private:
  Eagle3 draft_;
  DraftIndex vocab_;
  const TargetRows& rows_;
  const LearnOptions options_;
};

}  // namespace

Status check_records(RecordRefs records, const DraftShape& shape) {
  for (const TraceRecord* record : records) {
    if (record->hidden != shape.hidden)
      return Status::invalid("record of hidden size " + std::to_string(record->hidden) +
                             ", the draft has " + std::to_string(shape.hidden));
  }
  return Status::ok();
}

Result<std::vector<Leads>> score(const Eagle3& draft, const DraftIndex& vocab,
                                 const TargetRows& rows, RecordRefs records,
                                 const LearnOptions& options, int depth) {
  if (Status s = check_records(records, draft.shape); !s) return s;
  std::vector<Leads> out;
  for (const TraceRecord* record : records) {  // one at a time: bounded memory
    if (record->served_tokens() < 2) {
      out.emplace_back();
      continue;
    }
    auto batch = pack({&record, 1}, vocab, rows,
                      {.steps = depth, .context_rows_max = options.context_rows_max});
    if (!batch) return batch.status();
    out.push_back(std::move(count_leads(draft, *batch, depth)[0]));
  }
  return out;
}

Result<std::unique_ptr<Scorer>> make_scorer(const DraftWeights& draft, const TargetRows& rows,
                                            const LearnOptions& options) {
  return guarded("scorer", [&]() -> Result<std::unique_ptr<Scorer>> {
    return std::unique_ptr<Scorer>(std::make_unique<TorchScorer>(draft, rows, options));
  });
}

}  // namespace aurora
