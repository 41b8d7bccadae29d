#!/usr/bin/env python3
"""The same target in another shape: as a mixture of two equal experts, or in two files. Its text stays the same to the byte.

    tests/e2e/target_variants.py experts|split TARGET.gguf OUT_DIR        prints the file to serve
"""
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gguf_bytes
from gguf_bytes import I32, U16, U32, key

# Bytes of so many elements, by ggml's number of the type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 13: (256, 176),
          14: (256, 210)}


def read(path):
    """(keys as they are, [(name, type, shape, bytes)])"""
    data = pathlib.Path(path).read_bytes()
    keys, found = gguf_bytes.read(data)
    tensors = []
    for name, (kind, shape, offset) in found.items():
        block, size = BLOCKS[kind]
        tensors.append((name, kind, shape, data[offset:offset + math.prod(shape) // block * size]))
    return keys, tensors


def as_experts(source, folder):
    """Every MLP twice, with a router that likes both the same: half of one and half of the other is exactly either."""
    keys, tensors = read(source)
    changed = []
    for name, kind, shape, data in tensors:
        layer, _, part = name.rpartition("ffn_")
        if part not in ("gate.weight", "up.weight", "down.weight"):
            changed.append((name, kind, shape, data))
            continue
        changed.append((f"{layer}ffn_{part.removesuffix('.weight')}_exps.weight", kind, [*shape, 2], 2 * data))
        if part == "gate.weight":
            changed.append((f"{layer}ffn_gate_inp.weight", 0, [shape[0], 2], bytes(8 * shape[0])))
    path = pathlib.Path(folder) / "experts.gguf"
    gguf_bytes.write(path, [*keys, key("llama.expert_count", U32, 2), key("llama.expert_used_count", U32, 2)], changed)
    return path


def as_split(source, folder):
    keys, tensors = read(source)
    parts = [pathlib.Path(folder) / f"split-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (path, some) in enumerate(zip(parts, (tensors[::2], tensors[1::2]))):
        split = [key("split.no", U16, number), key("split.count", U16, 2), key("split.tensors.count", I32, len(tensors))]
        gguf_bytes.write(path, [*keys, *split] if number == 0 else split, some)
    return parts[0]


if __name__ == "__main__":
    print({"experts": as_experts, "split": as_split}[sys.argv[1]](sys.argv[2], sys.argv[3]))
