#include "registry/target_fingerprint.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <vector>

#include "base/fingerprint.h"
#include "base/sha256.h"
#include "draft/gguf_file.h"
#include "draft/model_files.h"

namespace aurora {
namespace {

constexpr uint64_t kEndBytes = 1u << 20;
constexpr uint64_t kTensorPieceBytes = 4096;

Result<std::string> of_file(const std::string& path) {
  std::vector<FilePiece> pieces = {{0, kEndBytes}};
  const auto file = GgufFile::open(path);
  if (!file) return Status::invalid(path + " is not a GGUF model");
  const gguf_context* meta = (*file)->meta();
  const uint64_t data = gguf_get_data_offset(meta);
  for (int64_t i = 0; i < gguf_get_n_tensors(meta); ++i) {
    const uint64_t begin = data + gguf_get_tensor_offset(meta, i);
    const uint64_t bytes = gguf_get_tensor_size(meta, i);
    const uint64_t piece = std::min(bytes, kTensorPieceBytes);
    pieces.push_back({begin, piece});
    pieces.push_back({begin + (bytes - piece) / 2, piece});
  }
  return file_fingerprint(path, pieces);
}

}  // namespace

Result<std::string> target_fingerprint(const std::string& path) {
  if (auto named = file_fingerprint(path, {}); !named) return named.status();
  const auto files = model_files(path);
  if (files.status().code() == StatusCode::kCorrupt)
    return Status::invalid(path + " is not a GGUF model");
  if (!files) return files.status();
  if (files->size() == 1) return of_file(path);
  std::string all;
  for (const std::string& part : *files) {
    const auto fingerprint = of_file(part);
    if (!fingerprint) return fingerprint.status();
    all += *fingerprint;
  }
  return sha256_hex(std::as_bytes(std::span(all))).substr(0, kFingerprintDigits);
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
