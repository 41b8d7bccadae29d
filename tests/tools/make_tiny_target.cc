// aurora-make-tiny-target OUT.gguf [ARCHITECTURE [SEED [f32|f16 [CONTEXT [split]]]]]: writes the
// toy target of the tests, for whoever needs a model in milliseconds. With SEED another model of
// the same shape: a draft of the one does not fit the other. llama-moe: a llama with experts.
// split: in two files beside OUT.gguf, OUT-00001-of-00002.gguf and the next.
#include <ggml.h>
#include <gguf.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "base/check.h"
#include "train/tiny_target.h"

namespace {

struct FreeGguf {
  void operator()(gguf_context* file) const { gguf_free(file); }
};
using GgufPtr = std::unique_ptr<gguf_context, FreeGguf>;

constexpr int kParts = 2;

void write_part(const GgufPtr& whole, ggml_context* tensors, const std::string& path, int part) {
  const GgufPtr out(gguf_init_empty());
  const int64_t count = gguf_get_n_tensors(whole.get());
  if (part == 0) gguf_set_kv(out.get(), whole.get());
  gguf_set_val_u16(out.get(), "split.no", static_cast<uint16_t>(part));
  gguf_set_val_u16(out.get(), "split.count", kParts);
  gguf_set_val_i32(out.get(), "split.tensors.count", static_cast<int32_t>(count));
  for (int64_t i = count * part / kParts; i < count * (part + 1) / kParts; ++i)
    gguf_add_tensor(out.get(), ggml_get_tensor(tensors, gguf_get_tensor_name(whole.get(), i)));
  CHECK(gguf_write_to_file(out.get(), path.c_str(), /*only_meta=*/false));
}

void split(const std::string& path) {
  ggml_context* tensors = nullptr;
  const GgufPtr whole(gguf_init_from_file(path.c_str(), {/*no_alloc=*/false, &tensors}));
  CHECK(whole != nullptr);
  const std::string stem = path.substr(0, path.rfind(".gguf"));
  for (int part = 0; part < kParts; ++part)
    write_part(whole, tensors, stem + "-0000" + std::to_string(part + 1) + "-of-00002.gguf", part);
  ggml_free(tensors);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: aurora-make-tiny-target OUT.gguf [ARCHITECTURE [SEED [f32|f16 [CONTEXT "
                 "[split]]]]]\narchitectures: llama-moe");
    for (const std::string& name : aurora::tiny_architectures())
      std::fprintf(stderr, " %s", name.c_str());
    std::fputc('\n', stderr);
    return 1;
  }
  aurora::TinyTarget target;
  target.context = 1024;
  if (argc > 2) target.architecture = argv[2];
  if (target.architecture == "llama-moe") {
    target.architecture = "llama";
    target.experts = 4;
  }
  if (argc > 3) target.seed = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10));
  if (argc > 4) target.half = std::strcmp(argv[4], "f16") == 0;
  if (argc > 5) target.context = static_cast<int>(std::strtol(argv[5], nullptr, 10));
  aurora::write_tiny_target(argv[1], target);
  if (argc > 6 && std::strcmp(argv[6], "split") == 0) split(argv[1]);
  return 0;
}
