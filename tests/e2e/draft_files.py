"""Draft files by hand: drafts poisoned on purpose, and versions published without a trainer."""
import hashlib
import json
import os
import pathlib
import random
import struct

import gguf_bytes

Q8_0, Q8_0_BYTES, I64 = 8, 34, 27


def head(data):
    kind, (columns, rows), offset = gguf_bytes.read(data)[1]["output.weight"]
    assert kind == Q8_0, "a draft of the default type"
    return columns // 32 * Q8_0_BYTES, rows, offset


def random_head(data):
    """Every token has another one's row."""
    row, rows, offset = head(data)
    order = list(range(rows))
    random.Random(5).shuffle(order)
    new = b"".join(data[offset + row * index:offset + row * (index + 1)] for index in order)
    return data[:offset] + new + data[offset + row * rows:]


def flipped_head(data):
    """The sign of every weight: the least likely token comes first."""
    row, rows, offset = head(data)
    new = bytearray(data)
    for at in range(offset + 1, offset + row * rows, Q8_0_BYTES):  # of the block's scale, fp16
        new[at] ^= 0x80
    return bytes(new)


def shifted_vocabulary(data):
    """A token that was not there comes first, the last one goes: rising and in range, and nearly every entry is wrong."""
    kind, (count,), offset = gguf_bytes.read(data)[1]["d2t"]
    assert kind == I64
    ids = struct.unpack_from(f"<{count}q", data, offset)
    there = set(ids)
    new = next(token for token in range(count + 1) if token not in there)
    shifted = sorted([new, *ids[:-1]])
    return data[:offset] + struct.pack(f"<{count}q", *shifted) + data[offset + 8 * count:]


def versions(folder):
    return sorted(int(path.stem[6:]) for path in pathlib.Path(folder).glob("draft-??????.json"))


class Publisher:
    """Publishes versions into a state folder whose trainer is away. `sources`: the drafts there now, taken in turn."""

    def __init__(self, state):
        self.folder = pathlib.Path(state) / "drafts"
        self.sources = [(self.path(version, "gguf").read_bytes(), json.loads(self.path(version, "json").read_text()))
                        for version in versions(self.folder) if self.path(version, "gguf").exists() and self.good(version)]
        self.next = max(versions(self.folder)) + 1

    def path(self, version, suffix):
        return self.folder / f"draft-{version:06d}.{suffix}"

    def good(self, version):
        verdict = self.path(version, "verdict.json")
        return not verdict.exists() or json.loads(verdict.read_text())["kind"] == "serving"

    def publish(self, data, replay_accept_len=None):
        """The manifest last, as a trainer does it; a replay that promises much is how a version is forced."""
        version, self.next = self.next, self.next + 1
        manifest = dict(self.sources[-1][1], version=version, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        if replay_accept_len is not None:
            manifest["replay_accept_len"] = replay_accept_len
        self.path(version, "gguf").write_bytes(data)
        temporary = self.path(version, "json.tmp")
        temporary.write_text(json.dumps(manifest))
        os.rename(temporary, self.path(version, "json"))
        return version

    def publish_in_turn(self):
        return self.publish(self.sources[self.next % len(self.sources)][0])

    def remove_below(self, version):
        for old in versions(self.folder):
            if old < version:
                for suffix in ("gguf", "json", "verdict.json"):
                    self.path(old, suffix).unlink(missing_ok=True)
