"""A toy picture encoder for the toy target, as a real GGUF of 160 KiB, and a picture for it."""
import base64
import math
import random
import struct
import zlib

from gguf_bytes import ARRAY, BOOL, F32, STRING, U32, key
from gguf_bytes import write as write_gguf

IMAGE, PATCH, WIDTH, INNER = 28, 14, 32, 48


def write(path, hidden=64):
    """hidden: the target's."""
    vision = {"embedding_length": WIDTH, "attention.head_count": 2, "feed_forward_length": INNER, "block_count": 2,
              "projection_dim": hidden, "image_size": IMAGE, "patch_size": PATCH}
    keys = [key("general.architecture", STRING, "clip"), key("clip.has_vision_encoder", BOOL, True),
            key("clip.projector_type", STRING, "mlp"), key("clip.vision.attention.layer_norm_epsilon", F32, 1e-5),
            key("clip.vision.image_mean", ARRAY, [0.5] * 3), key("clip.vision.image_std", ARRAY, [0.5] * 3),
            *(key(f"clip.vision.{name}", U32, value) for name, value in vision.items())]
    shapes = {"v.patch_embd.weight": (PATCH, PATCH, 3, WIDTH), "v.position_embd.weight": (WIDTH, (IMAGE // PATCH) ** 2),
              "mm.0.weight": (WIDTH, hidden), "mm.0.bias": (hidden,), "mm.2.weight": (hidden, hidden), "mm.2.bias": (hidden,)}
    for layer in range(2):
        block = f"v.blk.{layer}."
        shapes.update({f"{block}{name}.{part}": (WIDTH,) for name in ("ln1", "ln2") for part in ("weight", "bias")})
        shapes.update({f"{block}attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")})
        shapes.update({f"{block}ffn_up.weight": (WIDTH, INNER), f"{block}ffn_down.weight": (INNER, WIDTH)})
    draw = random.Random(1)
    tensors = []
    for name, shape in shapes.items():
        count = math.prod(shape)
        tensors.append((name, 0, shape, struct.pack(f"<{count}f", *(draw.uniform(-0.2, 0.2) for _ in range(count)))))
    write_gguf(path, keys, tensors)


def picture():
    """A PNG as a data URL."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + bytes(channel for x in range(IMAGE) for channel in (9 * x, 9 * y, 99)) for y in range(IMAGE))
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", IMAGE, IMAGE, 8, 2, 0, 0, 0)) +
           chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(png).decode()
