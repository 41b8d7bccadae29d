#!/usr/bin/env python3
"""The same target in another shape: as a mixture of two equal experts, or in two files. Its text stays the same to the byte.

    tests/e2e/target_variants.py experts|split TARGET.gguf OUT_DIR        prints the file to serve
"""
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from draft_files import Reader

ALIGNMENT = 32
# Bytes of so many elements, by ggml's number of the type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 13: (256, 176),
          14: (256, 210)}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def key(name, kind, form, value):
    return text(name) + struct.pack("<I" + form, kind, value)


def u16(name, value):
    return key(name, 2, "H", value)


def u32(name, value):
    return key(name, 4, "I", value)


def read(path):
    """(keys as they are, [(name, type, shape, bytes)])"""
    data = pathlib.Path(path).read_bytes()
    reader = Reader(data)
    _, _, count, pairs = reader.take("4sIQQ")
    keys = []
    for _ in range(pairs):
        begin = reader.at
        reader.text()
        reader.skip_value(reader.take("I"))
        keys.append(data[begin:reader.at])
    infos = []
    for _ in range(count):
        name, dims = reader.text(), reader.take("I")
        shape = [reader.take("Q") for _ in range(dims)]
        infos.append((name, shape, *reader.take("IQ")))
    begin = (reader.at + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    tensors = []
    for name, shape, kind, offset in infos:
        elements = 1
        for size in shape:
            elements *= size
        block, size = BLOCKS[kind]
        tensors.append((name, kind, shape, data[begin + offset:begin + offset + elements // block * size]))
    return keys, tensors


def write(path, keys, tensors):
    infos, offset = [], 0
    for name, kind, shape, data in tensors:
        infos.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += (len(data) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(infos)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for *_, data in tensors:
            file.write(data + bytes(-len(data) % ALIGNMENT))


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
    write(path, [*keys, u32("llama.expert_count", 2), u32("llama.expert_used_count", 2)], changed)
    return path


def as_split(source, folder):
    keys, tensors = read(source)
    parts = [pathlib.Path(folder) / f"split-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (path, some) in enumerate(zip(parts, (tensors[::2], tensors[1::2]))):
        split = [u16("split.no", number), u16("split.count", 2), key("split.tensors.count", 5, "i", len(tensors))]
        write(path, [*keys, *split] if number == 0 else split, some)
    return parts[0]


if __name__ == "__main__":
    print({"experts": as_experts, "split": as_split}[sys.argv[1]](sys.argv[2], sys.argv[3]))
