#include "draft/draft_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "draft/draft_tensors.h"
#include "draft/raw_draft.h"

namespace aurora {
namespace {

bool all_finite(const std::vector<float>& values) {
  for (const float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

Status check_weights(const DraftWeights& weights, const std::string& path) {
  const auto vocab = static_cast<int64_t>(weights.d2t.size());
  for (const DraftTensor& spec : draft_tensors(weights.shape, vocab)) {
    if (spec.weight == nullptr) continue;
    const std::vector<float>& values = weights.*spec.weight;
    if (values.size() != static_cast<size_t>(spec.rows * spec.cols)) {
      return Status::invalid(path + ": " + spec.name + " is not of the draft's shape");
    }
    if (!all_finite(values)) {
      return Status::corrupt(path + ": " + spec.name + " holds a number that is not finite");
    }
  }
  int64_t previous = -1;
  for (const int64_t id : weights.d2t) {
    if (id <= previous || id >= weights.shape.target_vocab) {
      return Status::corrupt(path + ": d2t is not rising, or leaves the target's vocabulary");
    }
    previous = id;
  }
  return vocab > 0 ? Status::ok() : Status::invalid(path + ": the draft vocabulary is empty");
}

ggml_type file_type(const DraftTensor& spec, DraftDtype dtype) {
  if (!spec.matrix || dtype == DraftDtype::kF32) return GGML_TYPE_F32;
  return fitting_type(dtype == DraftDtype::kQ8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16, spec.cols);
}

bool can_be_trained(const RawDraft& raw) {
  if (raw.norm_before_fc || raw.norm_before_residual || raw.rope_scaling != "none") return false;
  const auto tensors = draft_tensors(raw.shape, 1);
  return std::ranges::none_of(tensors, [&raw](const DraftTensor& spec) {
    return spec.weight == nullptr && raw.tensors.contains(spec.name);
  });
}

}  // namespace

Status write_draft_file(const std::string& path, const DraftWeights& weights,
                        const std::string& target_path, DraftDtype dtype) {
  if (Status status = check_weights(weights, path); !status) return status;
  auto target = GgufFile::open(target_path);
  if (!target) return target.status();
  RawDraft raw;
  raw.shape = weights.shape;
  raw.d2t = weights.d2t;
  for (const DraftTensor& spec :
       draft_tensors(raw.shape, static_cast<int64_t>(weights.d2t.size()))) {
    if (spec.weight == nullptr) continue;
    RawTensor& tensor = raw.tensors[spec.name];
    tensor.type = file_type(spec, dtype);
    tensor.bytes.resize(ggml_row_size(tensor.type, spec.cols) * static_cast<size_t>(spec.rows));
    ggml_quantize_chunk(tensor.type, (weights.*spec.weight).data(), tensor.bytes.data(), 0,
                        spec.rows, spec.cols, nullptr);
  }
  return write_raw_draft(path, raw, **target);
}

Result<DraftWeights> read_draft_file(const std::string& path) {
  const auto raw = read_raw_draft(path);
  if (!raw) return raw.status();
  if (!can_be_trained(*raw)) {
    return Status::invalid(path + " is an EAGLE-3 variant that cannot be trained on here");
  }
  DraftWeights weights;
  weights.shape = raw->shape;
  weights.d2t = raw->d2t;
  for (const DraftTensor& spec : draft_tensors(raw->shape, static_cast<int64_t>(raw->d2t.size()))) {
    if (spec.weight == nullptr) continue;
    const RawTensor values =
        convert(raw->tensors.at(spec.name), spec.rows, spec.cols, GGML_TYPE_F32);
    std::vector<float>& out = weights.*spec.weight;
    out.resize(static_cast<size_t>(spec.rows * spec.cols));
    std::memcpy(out.data(), values.bytes.data(), values.bytes.size());
  }
  if (Status status = check_weights(weights, path); !status) return status;
  return weights;
}

}  // namespace aurora
