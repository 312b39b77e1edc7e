#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Models for tests/bench/quality.sh; needs numpy.

    quality.py widen IN OUT           a llama model of F32 tensors, as wide as K-quants need it
    quality.py random SEED IN OUT     random weights in SmolLM2-135M's shape, 4 of its layers, with
                                      IN's tokenizer
    quality.py quantise TYPE IN OUT   every matrix of an F32 file in TYPE

widen: the hidden state is tiled 4 times and what reads it divided by 4, heads are tiled as well
(attn_output divided by 4), the feed-forward's inside is padded with zeros. RMS norms keep their
value, and so does every logit but for the order of sums. The blocks of a type are those of
runtime/model/blocks.c; scales are found by trying a few and taking the least squared error, nothing
weighs by importance.
"""
import os
import struct
import sys

import numpy as np

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
import gguf

TILES = 4
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12,
         "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "BF16": 30}
IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.0])


# ---- files ----

class File(gguf.File):
    """One whose keys can be changed."""

    def set_u32(self, key, value):
        self.keys[key] = string(key) + struct.pack("<II", 4, value)
        self.values[key] = value

    def set_f32(self, key, value):
        self.keys[key] = string(key) + struct.pack("<If", 6, value)
        self.values[key] = value


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def write(path, keys, tensors):
    """tensors: name to (type, dims as in the file, bytes)."""
    keys = {name: raw for name, raw in keys.items()
            if name not in ("general.alignment", "general.file_type")}
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(keys)) + b"".join(keys.values())
    offset = 0
    for name, (kind, dims, raw) in tensors.items():
        head += string(name) + struct.pack("<I", len(dims)) + struct.pack("<%dQ" % len(dims), *dims)
        head += struct.pack("<IQ", TYPES[kind], offset)
        offset += (len(raw) + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for _, _, raw in tensors.values():
            f.write(raw + bytes(-len(raw) % 32))


def write_f32(path, keys, tensors):
    write(path, keys, {name: ("F32", list(w.shape[::-1]), w.astype("<f4").tobytes())
                       for name, w in tensors.items()})


# ---- models ----

def widen_tensor(name, w, ffn):
    pad = (-ffn) % 256
    if name.endswith("_norm.weight"):
        return np.tile(w, TILES)
    if name == "token_embd.weight":
        return np.tile(w, (1, TILES))
    if name == "output.weight":
        return np.tile(w / TILES, (1, TILES))
    if "ffn_gate" in name or "ffn_up" in name:
        return np.pad(np.tile(w / TILES, (1, TILES)), ((0, pad), (0, 0)))
    if "ffn_down" in name:
        return np.pad(np.tile(w, (TILES, 1)), ((0, 0), (0, pad)))
    assert "attn_" in name, name
    return np.tile(w / TILES, (TILES, TILES))


def widen(source, target):
    f = File(source)
    assert f.values["general.architecture"] == "llama"
    ffn = f.values["llama.feed_forward_length"]
    tensors = dict(f.tensors)
    tensors.setdefault("output.weight", tensors["token_embd.weight"])
    heads = f.values["llama.attention.head_count"]
    f.set_u32("llama.attention.head_count_kv",
              TILES * f.values.get("llama.attention.head_count_kv", heads))
    f.set_u32("llama.attention.head_count", TILES * heads)
    f.set_u32("llama.embedding_length", TILES * f.values["llama.embedding_length"])
    f.set_u32("llama.feed_forward_length", (ffn + 255) // 256 * 256)
    write_f32(target, f.keys,
              {name: widen_tensor(name, w, ffn) for name, w in tensors.items()})


def random(seed, source, target):
    """SmolLM2-135M: hidden 576 and ffn 1536; 576 is no multiple of 256, so 768 stands for it."""
    rng, f = np.random.default_rng(seed), File(source)
    hidden, ffn, layers, heads, kv, dim = 768, 1536, 4, 12, 4, 64
    vocab = f.tensors["token_embd.weight"].shape[0]
    for key, value in (("embedding_length", hidden), ("feed_forward_length", ffn),
                       ("block_count", layers), ("attention.head_count", heads),
                       ("attention.head_count_kv", kv), ("rope.dimension_count", dim)):
        f.set_u32("llama." + key, value)

    def matrix(rows, k, gain=1.0):
        return (rng.standard_normal((rows, k)) * gain / np.sqrt(k)).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    tensors = {"token_embd.weight": matrix(vocab, hidden, np.sqrt(hidden)),
               "output_norm.weight": ones, "output.weight": matrix(vocab, hidden, 2)}
    for i in range(layers):
        tensors.update({"blk.%d.%s.weight" % (i, name): w for name, w in (
            ("attn_norm", ones), ("attn_q", matrix(heads * dim, hidden, 2)),
            ("attn_k", matrix(kv * dim, hidden, 2)), ("attn_v", matrix(kv * dim, hidden)),
            ("attn_output", matrix(hidden, heads * dim)), ("ffn_norm", ones),
            ("ffn_gate", matrix(ffn, hidden)), ("ffn_up", matrix(ffn, hidden)),
            ("ffn_down", matrix(hidden, ffn)))})
    write_f32(target, f.keys, tensors)


# ---- types ----

def f16(x):
    return x.astype(np.float16)


def halves(x):
    return f16(x).view(np.uint8).reshape(len(x), -1)


def invert(d):
    d = d.astype(np.float64)
    return np.where(d == 0, 0, 1 / np.where(d == 0, 1, d))


def grid(x, low, high):
    return lambda d: np.clip(np.rint(x * invert(d)[:, None]), low, high)


def best_scale(x, tries, quant, value=lambda q: q, rounded=f16):
    """Of the scales in `tries` (each one per row of x), rounded, that of least error; its q."""
    best = np.full(len(x), np.inf)
    scale = np.zeros(len(x), np.float64)
    q = np.zeros(x.shape)
    for d in tries:
        d = rounded(d).astype(np.float64)
        trial = quant(d)
        error = ((value(trial) * d[:, None] - x) ** 2).sum(axis=1)
        better = error < best
        best[better], scale[better], q[better] = error[better], d[better], trial[better]
    return scale, q


def symmetric_tries(x, high):
    """Of a grid from -high to high - 1: the largest weight at either end, or a little inside."""
    at = np.abs(x).argmax(axis=1)
    largest = x[np.arange(len(x)), at]
    return [sign * largest / (high + step / 8) for step in range(-12, 5) for sign in (-1, 1)]


def best_affine(x, high, rounded=f16, floor=False):
    """w = d * q + m, q in 0..high; floor: m is not above 0. Returns d, m, q."""
    best = np.full(len(x), np.inf)
    d_best, m_best, q_best = np.zeros(len(x)), np.zeros(len(x)), np.zeros(x.shape)
    low, top = x.min(axis=1), x.max(axis=1)
    if floor:
        low, top = np.minimum(low, 0), np.maximum(top, 0)
    for step in range(-4, 5):
        shrink = (top - low) * step / 60
        m = low + shrink
        if floor:
            m = np.minimum(m, 0)
        m = rounded(m).astype(np.float64)
        d = rounded((top - shrink - m) / high).astype(np.float64)
        q = np.clip(np.rint((x - m[:, None]) * invert(d)[:, None]), 0, high)
        error = ((q * d[:, None] + m[:, None] - x) ** 2).sum(axis=1)
        better = error < best
        best[better], d_best[better] = error[better], d[better]
        m_best[better], q_best[better] = m[better], q[better]
    return d_best, m_best, q_best


def nibbles(q):
    q = q.astype(np.uint8) & 15
    return q[:, :16] | q[:, 16:] << 4


def fifth_bits(q):
    bits = (q.astype(np.uint32) >> 4 & 1) << np.arange(32, dtype=np.uint32)
    return bits.sum(axis=1).astype("<u4").view(np.uint8).reshape(-1, 4)


def q8_0(x):
    d = f16(np.abs(x).max(axis=1) / 127).astype(np.float64)
    q = grid(x, -127, 127)(d).astype(np.int8)
    return np.hstack([halves(d), q.view(np.uint8)])


def q4_0(x):
    d, q = best_scale(x, symmetric_tries(x, 8), grid(x, -8, 7))
    return np.hstack([halves(d), nibbles(q + 8)])


def q5_0(x):
    d, q = best_scale(x, symmetric_tries(x, 16), grid(x, -16, 15))
    return np.hstack([halves(d), fifth_bits(q + 16), nibbles(q + 16)])


def q4_1(x):
    d, m, q = best_affine(x, 15)
    return np.hstack([halves(d), halves(m), nibbles(q)])


def q5_1(x):
    d, m, q = best_affine(x, 31)
    return np.hstack([halves(d), halves(m), fifth_bits(q), nibbles(q)])


def iq4_nl(x):
    middles = (IQ4_NL[1:] + IQ4_NL[:-1]) / 2

    def nearest(d):
        return np.searchsorted(middles, x * invert(d)[:, None]).astype(np.float64)

    most = np.abs(x).max(axis=1)
    tries = [sign * most / (127 - 3 * step) for step in range(-3, 12) for sign in (-1, 1)]
    d, q = best_scale(x, tries, nearest, lambda q: IQ4_NL[q.astype(int)])
    return np.hstack([halves(d), nibbles(q)])


def k_scales(sc, m):
    """The 12 bytes of eight scales and minima of 6 bits."""
    out = np.zeros((len(sc), 12), np.uint8)
    out[:, 0:4] = sc[:, :4] | (sc[:, 4:] >> 4) << 6
    out[:, 4:8] = m[:, :4] | (m[:, 4:] >> 4) << 6
    out[:, 8:12] = (sc[:, 4:] & 15) | (m[:, 4:] & 15) << 4
    return out


def k_quants(x, high):
    """d, dmin, sc, m and q of superblocks, a row each."""
    n = len(x)
    exact, low, _ = best_affine(x.reshape(-1, 32), high, np.float64, True)
    exact, low = exact.reshape(n, 8), -low.reshape(n, 8)
    d, dmin = f16(exact.max(axis=1) / 63), f16(low.max(axis=1) / 63)
    sc = np.clip(np.rint(exact * invert(d)[:, None]), 0, 63).astype(np.uint8)
    m = np.clip(np.rint(low * invert(dmin)[:, None]), 0, 63).astype(np.uint8)
    scale = (d.astype(np.float64)[:, None] * sc)[:, :, None]
    low = (dmin.astype(np.float64)[:, None] * m)[:, :, None]
    q = np.rint((x.reshape(n, 8, 32) + low) * invert(scale))
    return d, dmin, sc, m, np.clip(q, 0, high).astype(np.uint8)


def pairs(q):
    """Nibbles of eight blocks of 32: two of them in 32 bytes."""
    return (q[:, 0::2] & 15 | (q[:, 1::2] & 15) << 4).reshape(len(q), 128)


def q4_k(x):
    d, dmin, sc, m, q = k_quants(x, 15)
    return np.hstack([halves(d), halves(dmin), k_scales(sc, m), pairs(q)])


def q5_k(x):
    d, dmin, sc, m, q = k_quants(x, 31)
    high = ((q >> 4 & 1) << np.arange(8, dtype=np.uint8)[None, :, None]).sum(axis=1)
    return np.hstack([halves(d), halves(dmin), k_scales(sc, m), high.astype(np.uint8), pairs(q)])


def q6_k(x):
    n, part = len(x), x.reshape(-1, 16)
    exact, _ = best_scale(part, symmetric_tries(part, 32), grid(part, -32, 31), rounded=np.float64)
    exact = exact.reshape(n, 16)
    at = np.abs(exact).argmax(axis=1)
    d = f16(exact[np.arange(n), at] / -128)
    sc = np.clip(np.rint(exact * invert(d)[:, None]), -128, 127).astype(np.int8)
    scale = (d.astype(np.float64)[:, None] * sc).reshape(-1)
    q = (grid(part, -32, 31)(scale) + 32).astype(np.uint8).reshape(n, 2, 4, 32)
    low, high = q & 15, q >> 4
    low = low[:, :, :2] | low[:, :, 2:] << 4
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return np.hstack([low.reshape(n, 128), high.reshape(n, 64), sc.view(np.uint8), halves(d)])


BLOCKS = {"Q8_0": (32, q8_0), "Q4_0": (32, q4_0), "Q5_0": (32, q5_0), "Q4_1": (32, q4_1),
          "Q5_1": (32, q5_1), "IQ4_NL": (32, iq4_nl), "Q4_K": (256, q4_k), "Q5_K": (256, q5_k),
          "Q6_K": (256, q6_k)}


def convert(kind, w):
    if kind == "F32":
        return w.astype("<f4").tobytes()
    if kind == "F16":
        return w.astype("<f2").tobytes()
    if kind == "BF16":
        bits = w.astype("<f4").view(np.uint32)
        return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    size, blocks = BLOCKS[kind]
    return blocks(w.astype(np.float64).reshape(-1, size)).astype(np.uint8).tobytes()


def quantise(kind, source, target):
    f = File(source)
    write(target, f.keys, {
        name: (kind, list(w.shape[::-1]), convert(kind, w)) if w.ndim == 2 else
        ("F32", list(w.shape[::-1]), w.tobytes()) for name, w in f.tensors.items()})


def main():
    what = sys.argv[1:2]
    if what == ["widen"] and len(sys.argv) == 4:
        widen(*sys.argv[2:])
    elif what == ["random"] and len(sys.argv) == 5:
        random(int(sys.argv[2]), *sys.argv[3:])
    elif what == ["quantise"] and len(sys.argv) == 5:
        quantise(*sys.argv[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
