#include "cli/deterministic.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>

#include "draft/gguf_file.h"
#include "draft/model_files.h"
#include "kernels/kernels.h"

namespace aurora {
namespace {

// Of these the tests compare logits and text; an architecture is added with its test.
constexpr std::array<const char*, 2> kArchitectures = {"llama", "qwen2"};

template <size_t N>
using Names = std::array<const char*, N>;

// The last of these flags among llama-server's, else its environment variable.
template <size_t N>
std::optional<std::string> value_of(const ServeOptions& options, const Names<N>& names,
                                    const char* variable) {
  std::optional<std::string> value;
  if (const char* text = std::getenv(variable)) value = text;
  for (size_t i = 0; i + 1 < options.server_args.size(); ++i)
    for (const char* name : names)
      if (options.server_args[i] == name) value = options.server_args[i + 1];
  return value;
}

Status not_covered(const std::string& what) {
  return Status::invalid("--deterministic does not cover " + what);
}

Status check_weights(const gguf_context* file) {
  for (int64_t i = 0; i < gguf_get_n_tensors(file); ++i) {
    const ggml_type type = gguf_get_tensor_type(file, i);
    if (kernels::takes(type)) continue;
    return not_covered(std::string("weights of type ") + ggml_type_name(type) + " (" +
                       gguf_get_tensor_name(file, i) + ")");
  }
  return Status::ok();
}

}  // namespace

Status check_deterministic_flags(const ServeOptions& options) {
  if (!options.kernels)
    return not_covered(
        "stock's kernels, which sum a single row unlike a batch; leave --kernels off out");
  const auto flash = value_of(options, Names<2>{"-fa", "--flash-attn"}, "LLAMA_ARG_FLASH_ATTN");
  if (flash && (*flash == "off" || *flash == "0"))
    return not_covered("attention without the flash kernel; leave -fa off out");
  for (const auto& type :
       {value_of(options, Names<2>{"-ctk", "--cache-type-k"}, "LLAMA_ARG_CACHE_TYPE_K"),
        value_of(options, Names<2>{"-ctv", "--cache-type-v"}, "LLAMA_ARG_CACHE_TYPE_V")}) {
    if (type && *type != "f16" && *type != "f32")
      return not_covered("a cache of type " + *type + "; give f16 or f32");
  }
  return Status::ok();
}

Status check_deterministic_target(const std::string& path, const std::string& architecture) {
  const auto known = std::find(kArchitectures.begin(), kArchitectures.end(), architecture);
  if (known == kArchitectures.end())
    return not_covered("the architecture '" + architecture + "' yet, only llama and qwen2");
  const auto parts = model_files(path);
  if (!parts) return parts.status();
  for (const std::string& part : *parts) {
    const auto file = GgufFile::open(part);
    if (!file) return file.status();
    if (Status status = check_weights((*file)->meta()); !status) return status;
  }
  return Status::ok();
}

Status check_deterministic_cpu() {
  if (kernels::enabled()) return Status::ok();
  return not_covered("this CPU: our kernels need AVX2");
}

}  // namespace aurora
