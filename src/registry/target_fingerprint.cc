#include "registry/target_fingerprint.h"

#include <gguf.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/fingerprint.h"

namespace aurora {
namespace {

constexpr uint64_t kEndBytes = 1u << 20;
constexpr uint64_t kTensorPieceBytes = 4096;

}  // namespace

Result<std::string> target_fingerprint(const std::string& path) {
  std::vector<FilePiece> pieces = {{0, kEndBytes}};
  if (auto named = file_fingerprint(path, {}); !named) return named.status();
  const std::unique_ptr<gguf_context, void (*)(gguf_context*)> file(
      gguf_init_from_file(path.c_str(), {true, nullptr}), gguf_free);
  if (!file) return Status::invalid(path + " is not a GGUF model");
  const uint64_t data = gguf_get_data_offset(file.get());
  for (int64_t i = 0; i < gguf_get_n_tensors(file.get()); ++i) {
    const uint64_t begin = data + gguf_get_tensor_offset(file.get(), i);
    const uint64_t bytes = gguf_get_tensor_size(file.get(), i);
    const uint64_t piece = std::min(bytes, kTensorPieceBytes);
    pieces.push_back({begin, piece});
    pieces.push_back({begin + (bytes - piece) / 2, piece});
  }
  return file_fingerprint(path, pieces);
}

Result<std::string> old_target_fingerprint(const std::string& path) {
  std::error_code error;
  const uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) return Status::io("cannot read " + path + ": " + error.message());
  const uint64_t end = std::min(bytes, kEndBytes);
  const std::vector<FilePiece> pieces = {{0, end}, {bytes - end, end}};
  return file_fingerprint(path, pieces);
}

}  // namespace aurora
