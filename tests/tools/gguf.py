# SPDX-License-Identifier: MIT
"""GGUF files of F32 tensors, read with nothing of unpu."""
import struct

import numpy as np

SIZES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class File:
    """Keys as raw records and as values, tensors as arrays of float32, slowest dimension first."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 8
        num_tensors, num_keys = self.number("Q"), self.number("Q")
        self.keys, self.values = {}, {}
        for _ in range(num_keys):
            start = self.at
            key = self.text()
            self.values[key] = self.value(self.number("I"))
            self.keys[key] = self.data[start:self.at]
        infos = []
        for _ in range(num_tensors):
            name = self.text()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            kind, offset = self.number("I"), self.number("Q")
            assert kind == 0, name + " is not F32"
            infos.append((name, dims, offset))
        align = self.values.get("general.alignment", 32)
        start = (self.at + align - 1) // align * align
        self.tensors = {
            name: np.frombuffer(self.data, "<f4", int(np.prod(dims)), start + offset)
            .reshape(dims[::-1]) for name, dims, offset in infos}

    def number(self, kind):
        value, = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def text(self):
        n = self.number("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, n = self.number("I"), self.number("Q")
            return [self.value(kind) for _ in range(n)]
        return self.number(SIZES[kind])
