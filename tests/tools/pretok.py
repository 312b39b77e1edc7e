#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/pretok: where python3-regex cuts texts by the published pre-tokenizer patterns.

    tests/tools/pretok.py [VOCAB.gguf.inp]

- classes: code points to make random strings of, assigned and of one category in the Unicode
  versions of both regex and unicodedata (15 and 14 on Debian 12; PCRE2 10.42 has 14), so that
  what a newer version assigns does not matter
- random: per pre-tokenizer and batch of 500 strings, the hash of all cuts
- texts.splits: the lengths in bytes of the pieces of each text of texts (parted by lines `----`)
- inp.splits: the same of the texts of VOCAB.gguf.inp; left as it is when that is not given
"""
import os
import sys
import unicodedata

import regex

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "pretok")
STRINGS, BATCH, SEED = 10000, 500, 20240229

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")

PATTERNS = {
    "default": [GPT2],
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")],
    "starcoder": [r"\p{N}", GPT2],
    "refact": [r"\p{N}", GPT2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "mpt": [GPT2],
    "deepseek-llm": [
        "[\r\n]",
        r"\s?[" + CASED + "]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$",
        CJK,
        r"\p{N}+",
    ],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
}

# Weight, then ranges: what text is made of, and what implementations disagree about.
CLASSES = [
    (20, "20"),
    (10, "9-d 20 85 a0 180e 1680 2000-200b 2028-2029 202f 205f 2060 3000 feff"),
    (8, "a d"),
    (14, "41-5a 61-7a"),
    (8, "27 73 74 72 65 76 6d 6c 64 53 54 52 45 56 4d 4c 44 17f 2019"),
    (8, "30-39"),
    (8, "21-2f 3a-40 5b-60 7b-7e"),
    (4, "0-8 e-1f 7f-9f"),
    (5, "a1-24f"),
    (3, "250-52f 1e00-1fff 2c60-2c7f a640-a7ff ab70-abbf"),
    (3, "660-669 966-96f b2-b3 b9 bc-be 2070-2089 2150-2189 2460-249b 3007 3021-3029 ff10-ff19 "
        "1d7ce-1d7ff 10140-10174"),
    (3, "300-36f 483-489 591-5bd 64b-65f 93a-94f e31-e3a 1ab0-1abe 20d0-20f0 fe00-fe0f "
        "e0100-e01ef"),
    (3, "2010-2027 2030-205e 3001-3003 3008-3011 fe30-fe4f ff01-ff0f ff1a-ff20 ff3b-ff40 "
        "ff5b-ff65"),
    (3, "20a0-20bf 2190-23ff 2500-27bf 1f300-1f64f 1f680-1f6d2 1f900-1f9ff"),
    (3, "3041-3096 30a1-30fa ac00-d7a3 4e00-4e80 9f90-9fb0 3400-3420 20000-20020"),
    (3, "531-556 5d0-5ea 620-64a 905-939 e01-e30 f40-f6c 10a0-10ff 1100-1160 1200-1248 "
        "13a0-13fd 1780-17b3 1800-1842 1d00-1dbf a000-a08c"),
    (2, "fb00-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104fb 10c80-10cf2 118a0-118df "
        "1e900-1e94b 1d400-1d454"),
    (1, "e000-e010 200c-200f 2066-206f fff9-fffd f0000-f0010"),
]


def settled(code):
    """Assigned, and of the same category for both tables."""
    char = chr(code)
    category = unicodedata.category(char)
    return category not in ("Cn", "Cs") and bool(regex.match(r"\p{%s}" % category, char))


def class_ranges(spec):
    ranges = []
    for part in spec.split():
        first, _, last = part.partition("-")
        for code in range(int(first, 16), int(last or first, 16) + 1):
            if not settled(code):
                continue
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return ranges


class Random:
    """xorshift64*, as in tests/unit/pretok.c."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        x = self.state
        x ^= x >> 12
        x = (x ^ x << 25) & 0xffffffffffffffff
        x ^= x >> 27
        self.state = x
        return ((x * 0x2545f4914f6cdd1d & 0xffffffffffffffff) >> 33) % n


def pick(ranges, index):
    for first, last in ranges:
        if index <= last - first:
            return chr(first + index)
        index -= last - first + 1
    raise IndexError


def random_string(rng, classes, total):
    text = []
    for _ in range(1 + rng.below(12)):
        weight = rng.below(total)
        for each, ranges, size in classes:
            if weight < each:
                break
            weight -= each
        for _ in range(1 + rng.below(4)):
            text.append(pick(ranges, rng.below(size)))
    return "".join(text)


def cut(pattern, pieces):
    for piece in pieces:
        at = 0
        for match in pattern.finditer(piece):
            if match.start() == match.end():
                continue
            if match.start() > at:
                yield piece[at:match.start()]
            yield match.group()
            at = match.end()
        if at < len(piece):
            yield piece[at:]


def split(patterns, text):
    pieces = [text] if text else []
    for pattern in patterns:
        pieces = list(cut(pattern, pieces))
    return [len(piece.encode()) for piece in pieces]


def hash_cuts(value, lengths):
    """FNV-1a of the lengths, one byte each (a string has fewer than 256), and a 0."""
    for byte in [*lengths, 0]:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


def write_random(compiled):
    classes = [(weight, class_ranges(spec)) for weight, spec in CLASSES]
    with open(os.path.join(HERE, "classes"), "w") as out:
        for weight, ranges in classes:
            print(weight, *("%x-%x" % tuple(r) for r in ranges), file=out)
    classes = [(w, r, sum(last - first + 1 for first, last in r)) for w, r in classes]
    total = sum(w for w, _, _ in classes)
    rng = Random(SEED)
    strings = [random_string(rng, classes, total) for _ in range(STRINGS)]
    with open(os.path.join(HERE, "random"), "w") as out:
        print(SEED, STRINGS, BATCH, file=out)
        for name, patterns in compiled.items():
            for start in range(0, STRINGS, BATCH):
                value = 0xcbf29ce484222325
                for text in strings[start:start + BATCH]:
                    value = hash_cuts(value, split(patterns, text))
                print(name, start // BATCH, "%016x" % value, file=out)


def write_splits(compiled, texts, name):
    with open(os.path.join(HERE, name), "w") as out:
        for pre, patterns in compiled.items():
            for number, text in enumerate(texts):
                print(pre, number, *split(patterns, text), file=out)


def main():
    compiled = {name: [regex.compile(p, regex.V0) for p in patterns]
                for name, patterns in PATTERNS.items()}
    write_random(compiled)
    with open(os.path.join(HERE, "texts"), newline="") as file:
        write_splits(compiled, file.read().split("\n----\n"), "texts.splits")
    if len(sys.argv) > 1:
        with open(sys.argv[1], newline="") as file:
            write_splits(compiled, file.read().split("\n__ggml_vocab_test__\n"), "inp.splits")


if __name__ == "__main__":
    main()
