#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What insns.sh makes of the plugin's counts: insns.py table|accept|check COMPILER BASELINE COUNTS
AGAIN. AGAIN is the same with one panel done twice, which has to be noticed in every figure."""
import bisect
import collections
import json
import re
import shutil
import subprocess
import sys

GROWTH = 1.02
GOALS = {
    ("neon", "q4r8-k16_a8", 1): 0.35, ("neon", "q4r8-k16_a8", 4): 0.27,
    ("neon_inorder", "q4r8-k16_a8", 1): 0.35, ("neon_inorder", "q4r8-k16_a8", 4): 0.27,
    ("neon_dotprod", "q4r8-k4_a8", 1): 0.22, ("neon_dotprod", "q4r8-k4_a8", 4): 0.16,
}
PROCESSORS = ["cortex-a53", "cortex-a55", "cortex-a72", "neoverse-n1"]
HAVE_DOTPROD = {"cortex-a55", "neoverse-n1"}
HEAD = """\
# Instructions per multiply-add of the NEON mm twins, which tests/run insns holds them to:
# instruction set, twin, tokens, figure. Written by tests/bench/insns.sh --accept.
"""

Cell = collections.namedtuple("Cell", "macs insns blocks")
Block = collections.namedtuple("Block", "times code")


def read_counts(path):
    """By (instruction set, twin, tokens)."""
    counted, blocks = {}, collections.defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for line in file:
            word = line.split()
            if word[0] == "cell":
                cell = int(word[1])
                counted[cell] = int(word[2])
            else:
                blocks[cell].append((int(word[1]), int(word[2]), bytes.fromhex(word[3])))
    cells = {}
    with open(path + ".cells", encoding="utf-8") as file:
        for line in file:
            cell, isa, twin, tokens, macs = line.split()
            cells[isa, twin, int(tokens)] = Cell(int(macs), counted[int(cell)], blocks[int(cell)])
    return cells


def read_baseline(path):
    """The compiler, and figures as read_counts() has cells."""
    compiler, figures = "", {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith("compiler "):
                    compiler = line.split(None, 1)[1].strip()
                elif not line.startswith("#"):
                    isa, twin, tokens, figure = line.split()
                    figures[isa, twin, int(tokens)] = float(figure)
    except FileNotFoundError:
        pass
    return compiler, figures


def figure_of(cell):
    return round(cell.insns / cell.macs, 4)


def name_of(key):
    return f"{key[0]} {key[1]}, {key[2]} token{'s' if key[2] > 1 else ''}"


def judge(cells, figures):
    """(key, what is wrong) of each figure there is or should be; None: nothing; and of the new."""
    verdicts = []
    for key, cell in cells.items():
        figure, wrong = figure_of(cell), None
        if key in GOALS and round(figure, 3) > GOALS[key]:
            wrong = f"{figure:.4f} instructions per MAC, the goal is {GOALS[key]}"
        if key in figures and figure > figures[key] * GROWTH:
            wrong = (f"{figure:.4f} instructions per MAC, {figure / figures[key] - 1:.1%} above "
                     f"the baseline's {figures[key]:.4f}")
        verdicts.append((key, wrong))
    verdicts += [(key, "in the baseline, but no twin any more")
                 for key in list(figures) + list(GOALS) if key not in cells]
    return verdicts


def check(compiler, baseline, cells, again):
    """Lines for tests/run."""
    of, figures = read_baseline(baseline)
    if of != compiler:
        print(f"SKIP the compiler is {compiler}, the baseline's {of or 'missing'}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    good, bad, new = 0, [], [key for key in cells if key not in figures]
    for key, wrong in judge(cells, figures):
        if wrong:
            bad.append(f"{name_of(key)}: {wrong}")
        elif key in figures:
            good += 1
    # The gate itself: each figure is its own baseline here, so that growth is all there is.
    own = {key: figure_of(cell) for key, cell in cells.items()}
    for key, wrong in judge(again, own):
        if wrong and "above the baseline" in wrong:
            good += 1
        else:
            bad.append(f"{name_of(key)}: a panel done twice was not noticed")
    for share, noticed in ((1.015, 0), (1.025, len(cells))):
        lower = {key: figure / share for key, figure in own.items()}
        found = sum(1 for _, wrong in judge(cells, lower)
                    if wrong and "above the baseline" in wrong)
        if found == noticed:
            good += 1
        else:
            bad.append(f"of {len(cells)} figures {found} are said to have grown where all have, "
                       f"by {share - 1:.1%}")
    for line in bad:
        print(f"FAIL {line}")
    for key in new:
        print(f"SKIP {name_of(key)}: not in the baseline (tests/bench/insns.sh --accept)")
    print(f"{good} passed, {len(bad)} failed, {len(new)} skipped")
    return 1 if bad else 0


def accept(compiler, baseline, cells):
    with open(baseline, "w", encoding="utf-8") as file:
        file.write(HEAD + f"compiler {compiler}\n")
        for key, cell in sorted(cells.items()):
            file.write(f"{key[0]:12} {key[1]:16} {key[2]} {figure_of(cell):.4f}\n")


# ---- simulated cycles: every block of a call that matters, each in a loop of its own ----

def straight(blocks):
    """Blocks that follow one another and ran as often are one: the emulator cuts at pages."""
    merged = {}
    for address, times, code in blocks:
        old = merged.get(address, (0, b""))
        merged[address] = (old[0] + times, max(old[1], code, key=len))
    runs, starts = [], sorted(merged)
    for address in starts:
        times, code = merged[address]
        if runs and runs[-1][0] + len(runs[-1][2]) == address and runs[-1][1] == times:
            runs[-1] = (runs[-1][0], times, runs[-1][2] + code)
        else:
            runs.append((address, times, code))
    return [Block(times, code) for _, times, code in runs]


def that_matter(cell):
    """The longest-running, until they are 99 % of the instructions."""
    left, chosen = 0.99 * cell.insns, []
    for block in sorted(straight(cell.blocks), key=lambda b: -b.times * len(b.code)):
        if left > 0:
            chosen.append(block)
            left -= block.times * len(block.code) / 4
    return chosen


def tool(name):
    for suffix in ("-22", "-19", "-18", "-17", "", "-16", "-15", "-14"):
        if shutil.which(name + suffix):
            return name + suffix
    return None


def disassemble(codes):
    """Lists of lines. llvm-mc prints a line for each instruction it knows."""
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in code) for code in codes)
    out = subprocess.run([tool("llvm-mc"), "--disassemble", "--triple=aarch64",
                          "--mattr=+v8.2a,+dotprod,+fullfp16"], input=text, check=True,
                         capture_output=True, encoding="utf-8").stdout
    lines = [line for line in out.splitlines() if line.strip() and not re.match(r"\s*\.", line)]
    ends = [0]
    for code in codes:
        ends.append(ends[-1] + len(code) // 4)
    assert ends[-1] == len(lines), "llvm-mc did not know every instruction"
    return [lines[a:b] for a, b in zip(ends, ends[1:])]


def simulate(processor, bodies, turns=50):
    """Cycles of one turn of each."""
    text = "".join(f"# LLVM-MCA-BEGIN b{i}\n" + "\n".join(body) + "\n# LLVM-MCA-END\n"
                   for i, body in enumerate(bodies))
    out = subprocess.run([tool("llvm-mca"), "--mtriple=aarch64", f"--mcpu={processor}",
                          f"--iterations={turns}", "--json", "--mattr=+dotprod,+fullfp16"],
                         input=text, check=True,
                         capture_output=True, encoding="utf-8").stdout
    regions = json.loads(out)["CodeRegions"]
    assert len(regions) == len(bodies)
    return [region["SummaryView"]["TotalCycles"] / turns for region in regions]


def simulated(cells):
    """MAC/cycle by key and processor."""
    if not tool("llvm-mca") or not tool("llvm-mc"):
        return {}
    chosen = {key: that_matter(cell) for key, cell in cells.items()}
    codes = sorted({block.code for blocks in chosen.values() for block in blocks})
    bodies, found = disassemble(codes), {}
    for processor in PROCESSORS:
        cycles = simulate(processor, bodies)
        for key, blocks in chosen.items():
            if key[0] == "neon_dotprod" and processor not in HAVE_DOTPROD:
                continue
            insns = sum(block.times * len(block.code) / 4 for block in blocks)
            total = sum(block.times * cycles[bisect.bisect_left(codes, block.code)]
                        for block in blocks)
            found[key, processor] = cells[key].macs * insns / cells[key].insns / total
    return found


def table(cells, figures):
    cycles = simulated(cells)
    print(f"{'':12} {'':16} {'instructions per MAC':30}"
          + (f"MAC/cycle, simulated by {tool('llvm-mca')}, at 1 | 4 tokens" if cycles else ""))
    print(f"{'':12} {'twin':16} {'1 token':14} {'4 tokens':15}"
          + ("".join(f"{name:16}" for name in PROCESSORS) if cycles else ""))
    for isa, twin in dict.fromkeys(key[:2] for key in sorted(cells)):
        text = f"{isa:12} {twin:16} "
        for tokens in (1, 4):
            figure, goal = figure_of(cells[isa, twin, tokens]), GOALS.get((isa, twin, tokens))
            text += f"{figure:.3f}{f' (<={goal})' if goal else '':9} "
        for processor in PROCESSORS if cycles else ():
            pair = [cycles.get(((isa, twin, tokens), processor)) for tokens in (1, 4)]
            text += f"{pair[0]:5.2f} | {pair[1]:5.2f}   " if pair[0] else f"{'':16}"
        print(text.rstrip())
    wrong = [(key, what) for key, what in judge(cells, figures) if what]
    for key, what in wrong:
        print(f"insns: {name_of(key)}: {what}", file=sys.stderr)
    return 1 if wrong else 0


def main():
    what, compiler, baseline, counts, again = sys.argv[1:]
    cells = read_counts(counts)
    if what == "check":
        return check(compiler, baseline, cells, read_counts(again))
    if what == "accept":
        accept(compiler, baseline, cells)
    of, figures = read_baseline(baseline)
    return table(cells, figures if of == compiler else {})


sys.exit(main())
