#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Perplexity of ids by a plain forward pass in double: tests/tools/perplexity.py MODEL WINDOW [BOS]

Reads ids from stdin; MODEL is a llama or qwen2 GGUF file with F32 tensors. With BOS the first id of
each window is it. Shares nothing with unpu: it is what `unpu eval --text` is compared with. Prints
the perplexity, its standard error, the tokens scored and the windows.
"""
import sys

import numpy

import gguf


def softmax(x):
    x = numpy.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


class Model:
    def __init__(self, path):
        self.file = gguf.File(path)
        self.tensors = {name: w.astype(numpy.float64)
                        for name, w in self.file.tensors.items()}
        self.arch = self.file.values["general.architecture"]
        assert self.arch in ("llama", "qwen2"), self.arch
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv", self.heads)
        self.hidden = self.key("embedding_length")
        self.head_dim = self.key("attention.key_length", self.hidden // self.heads)
        self.eps = self.key("attention.layer_norm_rms_epsilon")
        self.base = self.key("rope.freq_base", 10000.0)

    def key(self, name, default=None):
        value = self.file.values.get(self.arch + "." + name, default)
        assert value is not None, name
        return value

    def norm(self, x, name):
        x = x / numpy.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)
        return x * self.tensors[name]

    def linear(self, x, name):
        y = x @ self.tensors[name + ".weight"].T
        bias = self.tensors.get(name + ".bias")
        return y if bias is None else y + bias

    def rope(self, x):  # n x heads x head_dim
        dims = self.key("rope.dimension_count", self.head_dim)
        angle = numpy.outer(numpy.arange(len(x)),
                            self.base ** (-numpy.arange(0, dims, 2) / dims))[:, None, :]
        even, odd = ((slice(0, dims, 2), slice(1, dims, 2)) if self.arch == "llama" else
                     (slice(0, dims // 2), slice(dims // 2, dims)))
        y = x.copy()
        y[..., even] = x[..., even] * numpy.cos(angle) - x[..., odd] * numpy.sin(angle)
        y[..., odd] = x[..., even] * numpy.sin(angle) + x[..., odd] * numpy.cos(angle)
        return y

    def attention(self, x, layer):
        n = len(x)
        x = self.norm(x, layer + "attn_norm.weight")
        q = self.rope(self.linear(x, layer + "attn_q").reshape(n, self.heads, -1))
        k = self.rope(self.linear(x, layer + "attn_k").reshape(n, self.kv_heads, -1))
        v = self.linear(x, layer + "attn_v").reshape(n, self.kv_heads, -1)
        group = self.heads // self.kv_heads
        k, v = k.repeat(group, axis=1), v.repeat(group, axis=1)
        scores = numpy.einsum("qhd,khd->hqk", q, k) / numpy.sqrt(self.head_dim)
        scores += numpy.triu(numpy.full((n, n), -numpy.inf), 1)
        out = numpy.einsum("hqk,khd->qhd", softmax(scores), v).reshape(n, -1)
        return self.linear(out, layer + "attn_output")

    def feed_forward(self, x, layer):
        x = self.norm(x, layer + "ffn_norm.weight")
        gate = self.linear(x, layer + "ffn_gate")
        return self.linear(gate / (1 + numpy.exp(-gate)) * self.linear(x, layer + "ffn_up"),
                           layer + "ffn_down")

    def probabilities(self, ids):
        x = self.tensors["token_embd.weight"][ids]
        for i in range(self.key("block_count")):
            layer = "blk.%d." % i
            x = x + self.attention(x, layer)
            x = x + self.feed_forward(x, layer)
        x = self.norm(x, "output_norm.weight")
        tied = "output.weight" not in self.tensors
        return softmax(self.linear(x, "token_embd" if tied else "output"))


def main():
    model, window = Model(sys.argv[1]), int(sys.argv[2])
    ids = [int(word) for word in sys.stdin.read().split()]
    surprise = []
    for start in range(0, len(ids) - window + 1, window):
        part = ids[start:start + window]
        if len(sys.argv) > 3:
            part[0] = int(sys.argv[3])
        p = model.probabilities(part)
        surprise += [-numpy.log(p[i, part[i + 1]]) for i in range(window // 2, window - 1)]
    surprise = numpy.array(surprise)
    value = numpy.exp(surprise.mean())
    error = value * numpy.sqrt(surprise.var() / (len(surprise) - 1))
    print(repr(float(value)), repr(float(error)), len(surprise), len(ids) // window)


if __name__ == "__main__":
    main()
