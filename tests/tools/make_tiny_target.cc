// aurora-make-tiny-target OUT.gguf [ARCHITECTURE [SEED [f32|f16 [CONTEXT]]]]: writes the toy target
// of the tests, for whoever needs a model in milliseconds. With SEED another model of the same
// shape: a draft of the one does not fit the other.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "train/tiny_target.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: aurora-make-tiny-target OUT.gguf [llama|qwen2|gemma2 [SEED [f32|f16 "
                 "[CONTEXT]]]]\n");
    return 1;
  }
  aurora::TinyTarget target;
  target.context = 1024;
  if (argc > 2) target.architecture = argv[2];
  if (argc > 3) target.seed = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10));
  if (argc > 4) target.half = std::strcmp(argv[4], "f16") == 0;
  if (argc > 5) target.context = static_cast<int>(std::strtol(argv[5], nullptr, 10));
  aurora::write_tiny_target(argv[1], target);
  return 0;
}
