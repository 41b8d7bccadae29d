// The files of a model: llama.cpp writes large ones as several GGUFs, PREFIX-00001-of-00003.gguf
// and so on, and is given the first.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "draft/gguf_file.h"

namespace aurora {

// In order: the file itself, or every part of a split model, whichever one is named. not found,
// io, corrupt as GgufFile::open; not found also names a part that is missing; invalid: a part under
// a name that does not say which.
Result<std::vector<std::string>> model_files(const std::string& path);

// The one that has the keys: the first of them.
Result<std::string> first_model_file(const std::string& path);

// A whole model, all of its files mapped. Thread-safe after open.
class ModelFile {
 public:
  static Result<std::unique_ptr<ModelFile>> open(const std::string& path);

  const GgufFile& keys() const { return *parts_.front(); }
  const std::string& path() const { return keys().path(); }

  bool has_tensor(const std::string& name) const { return part_of(name) != nullptr; }
  std::vector<std::string> tensor_names() const;
  // As GgufFile's.
  Result<GgufTensor> tensor(const std::string& name) const;
  Result<GgufTensor> tensor(const std::string& name, int64_t rows, int64_t cols) const;

 private:
  const GgufFile* part_of(const std::string& tensor) const;
  std::vector<std::unique_ptr<GgufFile>> parts_;
};

}  // namespace aurora
