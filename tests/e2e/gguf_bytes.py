"""GGUF files as bytes: read and written by tests that change one, or make one that llama.cpp has no tool for."""
import struct

U16, U32, I32, F32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9
ALIGNMENT = 32  # where no key says another
FORMS = {U16: "H", U32: "I", I32: "i", F32: "f", BOOL: "?"}
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of GGUF's value types


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def key(name, kind, value):
    """One key with its value; an array is of floats."""
    if kind == STRING:
        packed = text(value)
    elif kind == ARRAY:
        packed = struct.pack(f"<IQ{len(value)}f", F32, len(value), *value)
    else:
        packed = struct.pack("<" + FORMS[kind], value)
    return text(name) + struct.pack("<I", kind) + packed


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length:self.at].decode(errors="replace")

    def skip_value(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            kind, count = self.take("IQ")
            for _ in range(count):
                self.skip_value(kind)
        else:
            self.at += SIZES[kind]


def read(data):
    """(keys with their values as they are, name -> (type, shape, offset in the file))"""
    reader = Reader(data)
    _, _, count, pairs = reader.take("4sIQQ")
    keys = []
    for _ in range(pairs):
        begin = reader.at
        reader.text()
        reader.skip_value(reader.take("I"))
        keys.append(data[begin:reader.at])
    found = {}
    for _ in range(count):
        name, dims = reader.text(), reader.take("I")
        shape = [reader.take("Q") for _ in range(dims)]
        found[name] = (*reader.take("IQ"), shape)
    begin = reader.at + -reader.at % ALIGNMENT
    return keys, {name: (kind, shape, begin + offset) for name, (kind, offset, shape) in found.items()}


def write(path, keys, tensors):
    """keys: as key() makes and read() gives them. tensors: (name, type, shape, bytes), in their order."""
    infos, offset = [], 0
    for name, kind, shape, data in tensors:
        infos.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += len(data) + -len(data) % ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(infos)
    with open(path, "wb") as file:
        for data in (head, *(data for *_, data in tensors)):
            file.write(data + bytes(-len(data) % ALIGNMENT))
