#include "draft/model_files.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>

namespace aurora {
namespace {

constexpr int64_t kPartsMax = 99'999;  // as many as five digits count

// "-00002-of-00003.gguf"; part counts from 0.
std::string part_ending(int64_t part, int64_t parts) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "-%05lld-of-%05lld.gguf",
                static_cast<long long>(part + 1), static_cast<long long>(parts));
  return text.data();
}

}  // namespace

Result<std::vector<std::string>> model_files(const std::string& path) {
  const auto file = GgufFile::open(path);
  if (!file) return file.status();
  const auto parts = (*file)->integer("split.count");
  if (!parts || *parts <= 1) return std::vector<std::string>{path};
  const auto part = (*file)->integer("split.no");
  if (*parts > kPartsMax || !part || *part < 0 || *part >= *parts ||
      !path.ends_with(part_ending(*part, *parts))) {
    return Status::invalid(path + " is one part of a model in " + std::to_string(*parts) +
                           ", under a name that does not say which: give it the one that it had, "
                           "NAME-00001-of-00003.gguf for the first of three");
  }
  const std::string prefix = path.substr(0, path.size() - part_ending(*part, *parts).size());
  std::vector<std::string> files;
  for (int64_t i = 0; i < *parts; ++i) {
    std::string& name = files.emplace_back(prefix + part_ending(i, *parts));
    std::error_code error;
    if (!std::filesystem::exists(name, error)) {
      return Status::not_found(name + " is missing: the model has " + std::to_string(*parts) +
                               " parts, put all of them into one folder");
    }
  }
  return files;
}

Result<std::string> first_model_file(const std::string& path) {
  const auto files = model_files(path);
  if (!files) return files.status();
  return files->front();
}

Result<std::unique_ptr<ModelFile>> ModelFile::open(const std::string& path) {
  const auto files = model_files(path);
  if (!files) return files.status();
  auto model = std::make_unique<ModelFile>();
  for (const std::string& name : *files) {
    auto part = GgufFile::open_mapped(name);
    if (!part) return part.status();
    model->parts_.push_back(std::move(*part));
  }
  return model;
}

const GgufFile* ModelFile::part_of(const std::string& tensor) const {
  const auto found = std::find_if(parts_.begin(), parts_.end(),
                                  [&](const auto& part) { return part->has_tensor(tensor); });
  return found == parts_.end() ? nullptr : found->get();
}

std::vector<std::string> ModelFile::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& part : parts_)
    for (int64_t i = 0; i < gguf_get_n_tensors(part->meta()); ++i)
      names.push_back(gguf_get_tensor_name(part->meta(), i));
  return names;
}

Result<GgufTensor> ModelFile::tensor(const std::string& name) const {
  const GgufFile* part = part_of(name);
  return (part != nullptr ? *part : keys()).tensor(name);  // the first one says that it has none
}

Result<GgufTensor> ModelFile::tensor(const std::string& name, int64_t rows, int64_t cols) const {
  const GgufFile* part = part_of(name);
  return (part != nullptr ? *part : keys()).tensor(name, rows, cols);
}

}  // namespace aurora
