#include "draft/head_files.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numbers>
#include <numeric>
#include <system_error>

#include "base/check.h"
#include "base/files.h"
#include "draft/draft_tensors.h"

namespace aurora {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsName = "model.safetensors";
constexpr const char* kConfigName = "config.json";
constexpr size_t kConfigBytesMax = 1 << 20;
// An export's note of what a tensor was packed as, by its GGUF name.
constexpr const char* kPackedNote = "aurora.packed.";

struct TypePair {
  ggml_type ggml;
  SafeType safe;
  const char* torch;
};
constexpr TypePair kTypes[] = {{GGML_TYPE_F32, SafeType::kF32, "float32"},
                               {GGML_TYPE_F16, SafeType::kF16, "float16"},
                               {GGML_TYPE_BF16, SafeType::kBf16, "bfloat16"}};

const TypePair* pair_of(ggml_type type) {
  const auto found = std::ranges::find(kTypes, type, &TypePair::ggml);
  return found == std::end(kTypes) ? nullptr : &*found;
}
const TypePair* pair_of(SafeType type) {
  const auto found = std::ranges::find(kTypes, type, &TypePair::safe);
  return found == std::end(kTypes) ? nullptr : &*found;
}

int rotated_heads(const DraftShape& shape, std::string_view gguf_name) {
  if (gguf_name == "blk.0.attn_q.weight") return shape.heads;
  return gguf_name == "blk.0.attn_k.weight" ? shape.kv_heads : 0;
}

// RoPE turns the values 2i and 2i+1 of a head in llama.cpp, i and i + n/2 in the other programs:
// whole rows of q and k are exchanged, whatever their type.
void reorder_rows(RawTensor& tensor, int heads, int head_dim, bool to_halves) {
  if (heads == 0) return;
  const size_t rows = static_cast<size_t>(heads) * static_cast<size_t>(head_dim);
  const size_t row_bytes = tensor.bytes.size() / rows;
  const auto half = static_cast<size_t>(head_dim) / 2;
  std::vector<std::byte> out(tensor.bytes.size());
  for (size_t row = 0; row < rows; ++row) {
    const size_t inner = row % static_cast<size_t>(head_dim);
    const size_t neighbours = inner % half * 2 + inner / half;  // of row `inner` in halves
    const size_t from = to_halves ? row - inner + neighbours : row;
    const size_t to = to_halves ? row : row - inner + neighbours;
    std::memcpy(out.data() + to * row_bytes, tensor.bytes.data() + from * row_bytes, row_bytes);
  }
  tensor.bytes = std::move(out);
}

// What an export holds until it is written.
struct Exported {
  std::vector<RawTensor> bytes;
  std::vector<int64_t> offsets;    // d2t as the others have it: id minus draft id
  std::vector<std::byte> drafted;  // t2d: a byte for each token of the target
  std::vector<SafeTensor> tensors;
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

void add_vocabulary(const RawDraft& draft, Exported& out) {
  out.drafted.resize(static_cast<size_t>(draft.shape.target_vocab));
  for (size_t i = 0; i < draft.d2t.size(); ++i) {
    out.offsets.push_back(draft.d2t[i] - static_cast<int64_t>(i));
    out.drafted[static_cast<size_t>(draft.d2t[i])] = std::byte{1};
  }
  out.tensors.push_back({"d2t",
                         SafeType::kI64,
                         {static_cast<int64_t>(draft.d2t.size())},
                         std::as_bytes(std::span(out.offsets))});
  out.tensors.push_back({"t2d", SafeType::kBool, {draft.shape.target_vocab}, out.drafted});
}

void add_weights(const RawDraft& draft, const ExportOptions& options, Exported& out) {
  const auto specs = draft_tensors(draft.shape, static_cast<int64_t>(draft.d2t.size()));
  out.bytes.reserve(specs.size());  // spans point into it
  for (const DraftTensor& spec : specs) {
    const auto found = draft.tensors.find(spec.name);
    if (found == draft.tensors.end()) continue;
    const TypePair* same = pair_of(found->second.type);
    const TypePair* type = same ? same : pair_of(SafeType::kF32);
    if (!same)
      out.metadata[kPackedNote + std::string(spec.name)] = ggml_type_name(found->second.type);
    if (spec.matrix && options.type) type = pair_of(*options.type);
    RawTensor& tensor =
        out.bytes.emplace_back(convert(found->second, spec.rows, spec.cols, type->ggml));
    reorder_rows(tensor, rotated_heads(draft.shape, spec.name), draft.shape.head_dim, true);
    const std::vector<int64_t> shape =
        spec.matrix ? std::vector<int64_t>{spec.rows, spec.cols} : std::vector<int64_t>{spec.cols};
    out.tensors.push_back(
        {tensor_name(options.dialect, spec.name), type->safe, shape, tensor.bytes});
  }
  std::ranges::stable_sort(out.tensors, std::ranges::greater{},
                           [](const SafeTensor& t) { return safe_type_bytes(t.type); });
}

}  // namespace

Status export_head(const RawDraft& draft, const std::string& dir, const ExportOptions& options) {
  const std::string weights = dir + "/" + kWeightsName, config = dir + "/" + kConfigName;
  for (const std::string& path : {weights, config}) {
    std::error_code ignored;
    if (fs::exists(path, ignored))
      return Status::exists(path + " is there already; give a new folder by -o");
  }
  const TypePair* kept = pair_of(draft.tensors.at("fc.weight").type);
  const TypePair* type = options.type ? pair_of(*options.type) : kept ? kept : &kTypes[0];
  const auto json = config_json(draft, options.dialect, options.verifier, type->torch);
  if (!json) return json.status();
  Exported out;
  add_vocabulary(draft, out);
  add_weights(draft, options, out);
  std::error_code error;
  const bool fresh = fs::create_directories(dir, error);
  if (error) return Status::io("cannot make the folder " + dir + ": " + error.message());
  Status status = write_safetensors(weights, out.tensors, out.metadata);
  if (status) status = write_file_atomically(config, *json, 0644);
  if (status) return status;
  fs::remove(weights, error);
  if (fresh) fs::remove(dir, error);
  return status;
}

Result<HeadTarget> head_target(const GgufFile& target) {
  const auto architecture = target.text("general.architecture");
  if (!architecture) return architecture.status();
  HeadTarget out;
  const auto count = [&](const char* key) {
    const auto value = target.integer(*architecture + "." + key);
    return value && *value > 0 && *value < (1 << 30) ? static_cast<int>(*value) : 0;
  };
  out.shape.hidden = count("embedding_length");
  out.shape.target_layers = count("block_count");
  out.shape.context = count("context_length");
  out.shape.target_vocab = static_cast<int>(target.array_size("tokenizer.ggml.tokens"));
  if (out.shape.hidden == 0 || out.shape.target_layers == 0 || out.shape.context == 0 ||
      out.shape.target_vocab == 0) {
    return Status::invalid(target.path() +
                           " is no target: it does not say width, layers, context "
                           "and tokens; give the model that the draft is for by -m");
  }
  out.check = {out.shape.hidden, out.shape.target_vocab, out.shape.target_layers,
               tokenizer_digest(target)};
  return out;
}

namespace {

// FILE.safetensors, or the one in a folder.
Result<std::string> weights_path(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  const std::string usual = path + "/" + kWeightsName;
  if (fs::exists(usual, error)) return usual;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path().string());
  }
  if (found.size() == 1) return found[0];
  if (found.empty()) {
    return Status::not_found(path + " holds no .safetensors file; convert the head to safetensors");
  }
  return Status::invalid(path + " holds several .safetensors files; join them into one");
}

class Import {
 public:
  Import(const SafetensorsFile& file, HeadConfig config, std::optional<ggml_type> type)
      : file_(file), config_(std::move(config)), out_(config_.head), type_(type) {}

  Result<RawDraft> run() {
    if (Status status = vocabulary(); !status) return status;
    specs_ = draft_tensors(out_.shape, config_.draft_vocab);
    for (const SafeTensor& tensor : file_.tensors()) {
      if (Status status = take(tensor); !status) return status;
    }
    for (const DraftTensor& spec : specs_) {
      const bool wanted = !spec.optional || (out_.norm_before_fc &&
                                             spec.name == std::string("enc.output_norm.weight"));
      if (!wanted || out_.tensors.contains(spec.name)) continue;
      return corrupt("has no tensor " + tensor_name(Dialect::kSpecForge, spec.name));
    }
    if (config_.llama3_scaling) out_.tensors["rope_freqs.weight"] = rope_factors();
    return std::move(out_);
  }

 private:
  Status corrupt(const std::string& what) const {
    return Status::corrupt(file_.path() + " " + what);
  }
  Status invalid(const std::string& what) const {
    return Status::invalid(file_.path() + " " + what);
  }

  // d2t: offsets, in 64 or 32 bits; none where the head drafts every token.
  Status vocabulary() {
    const SafeTensor* d2t = file_.find("d2t");
    const auto vocab = static_cast<size_t>(config_.draft_vocab);
    out_.d2t.resize(vocab);
    std::iota(out_.d2t.begin(), out_.d2t.end(), 0);
    if (d2t == nullptr) {
      if (config_.draft_vocab == out_.shape.target_vocab) return Status::ok();
      return corrupt("has no tensor d2t, which says what tokens it drafts");
    }
    const bool wide = d2t->type == SafeType::kI64;
    if ((!wide && d2t->type != SafeType::kI32) || d2t->shape.size() != 1 ||
        d2t->shape[0] != config_.draft_vocab) {
      return corrupt("has a d2t that is not a vector of " + std::to_string(vocab) + " ids");
    }
    int64_t previous = -1;
    for (size_t i = 0; i < vocab; ++i) {
      int64_t offset = 0;
      int32_t narrow = 0;
      if (wide) std::memcpy(&offset, d2t->data.data() + i * sizeof offset, sizeof offset);
      else std::memcpy(&narrow, d2t->data.data() + i * sizeof narrow, sizeof narrow);
      if (!wide) offset = narrow;
      if (offset < 0 || offset >= out_.shape.target_vocab - static_cast<int64_t>(i)) {
        return corrupt("has a d2t that leaves the target's vocabulary");
      }
      out_.d2t[i] += offset;
      if (out_.d2t[i] <= previous) return corrupt("has a d2t whose tokens do not rise");
      previous = out_.d2t[i];
    }
    return drafted();
  }

  // t2d says the same as d2t, or one of them is of another head.
  Status drafted() const {
    const SafeTensor* t2d = file_.find("t2d");
    if (t2d == nullptr) return Status::ok();
    const auto tokens = static_cast<size_t>(out_.shape.target_vocab);
    if ((t2d->type != SafeType::kBool && t2d->type != SafeType::kU8) ||
        t2d->data.size() != tokens) {
      return corrupt("has a t2d that is not a mask of " + std::to_string(tokens) + " tokens");
    }
    size_t next = 0;
    for (size_t token = 0; token < tokens; ++token) {
      const bool named = next < out_.d2t.size() && out_.d2t[next] == static_cast<int64_t>(token);
      if ((t2d->data[token] != std::byte{0}) != named) {
        return corrupt("has a t2d that contradicts its d2t at token " + std::to_string(token));
      }
      next += named;
    }
    return Status::ok();
  }

  static bool is_ignored(const std::string& name) {
    return name == "d2t" || name == "t2d" || name == "verifier_lm_head.weight" ||
           name.ends_with("rotary_emb.inv_freq");
  }

  Status take(const SafeTensor& tensor) {
    if (is_ignored(tensor.name)) return Status::ok();
    const std::string name = gguf_name_of(tensor.name);
    const auto spec =
        std::ranges::find_if(specs_, [&](const DraftTensor& known) { return name == known.name; });
    if (spec == specs_.end() || out_.tensors.contains(name)) {
      return invalid("has the tensor " + tensor.name +
                     ", which llama.cpp's EAGLE-3 has no use for");
    }
    if (name == "enc.output_norm.weight" && !out_.norm_before_fc) {
      return invalid("has the tensor " + tensor.name + " but its config no norm_before_fc");
    }
    const std::vector<int64_t> wanted = spec->matrix ? std::vector<int64_t>{spec->rows, spec->cols}
                                                     : std::vector<int64_t>{spec->cols};
    if (tensor.shape != wanted) {
      return invalid("has the tensor " + tensor.name + " of shape " + text(tensor.shape) +
                     ", expected " + text(wanted));
    }
    const TypePair* stored = pair_of(tensor.type);
    if (stored == nullptr) return corrupt("has the tensor " + tensor.name + " of whole numbers");
    RawTensor raw{stored->ggml, {tensor.data.begin(), tensor.data.end()}};
    reorder_rows(raw, rotated_heads(out_.shape, name), out_.shape.head_dim, false);
    out_.tensors[name] = convert(raw, spec->rows, spec->cols, type_for(*spec, stored->ggml));
    return Status::ok();
  }

  ggml_type type_for(const DraftTensor& spec, ggml_type stored) const {
    if (!spec.matrix) return GGML_TYPE_F32;
    if (type_) return fitting_type(*type_, spec.cols);
    const auto note = file_.metadata().find(kPackedNote + std::string(spec.name));
    const bool packed = note != file_.metadata().end() && note->second == "q8_0";
    return packed && stored == GGML_TYPE_F32 ? fitting_type(GGML_TYPE_Q8_0, spec.cols) : stored;
  }

  static std::string text(const std::vector<int64_t>& shape) {
    std::string out;
    for (const int64_t length : shape) out += (out.empty() ? "" : " x ") + std::to_string(length);
    return out.empty() ? "one number" : out;
  }

  // Llama 3's scaling as llama.cpp takes it: by how much each pair's angle is divided. Short waves
  // stay, long ones turn slower by `factor`, between both it goes over smoothly.
  RawTensor rope_factors() const {
    std::vector<float> factors;
    for (int i = 0; i < out_.shape.head_dim / 2; ++i) {
      const double turn = std::pow(double{out_.shape.rope_base}, 2.0 * i / out_.shape.head_dim);
      const double waves = config_.original_context / (2 * std::numbers::pi * turn);
      const double smooth = std::clamp(
          (waves - config_.low_freq_factor) / (config_.high_freq_factor - config_.low_freq_factor),
          0.0, 1.0);
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / double{out_.rope_factor} + smooth)));
    }
    const auto bytes = std::as_bytes(std::span(factors));
    return {GGML_TYPE_F32, {bytes.begin(), bytes.end()}};
  }

  const SafetensorsFile& file_;
  const HeadConfig config_;
  RawDraft out_;
  const std::optional<ggml_type> type_;
  std::vector<DraftTensor> specs_;
};

}  // namespace

Result<RawDraft> import_head(const std::string& path, const DraftShape& target,
                             std::optional<ggml_type> type) {
  const auto weights = weights_path(path);
  if (!weights) return weights.status();
  const std::string config_path = parent_dir(*weights) + "/" + kConfigName;
  const auto json = read_file(config_path, kConfigBytesMax);
  if (!json) return json.status();
  auto config = read_config(config_path, *json, target);
  if (!config) return config.status();
  const auto file = SafetensorsFile::open(*weights);
  if (!file) return file.status();
  return Import(*file, std::move(*config), type).run();
}

}  // namespace aurora
