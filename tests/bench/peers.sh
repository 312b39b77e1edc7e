#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu and llama.cpp in turn on the same files: tests/bench/peers.sh PEER_DIR MODEL...
# PEER_DIR holds llama-bench (itself, in bin/ or in build/bin/). Environment: UNPU (build/unpu),
# ROUNDS (3), THREADS ("1 2"), PROMPT (128), GENERATE (64), UNPU_ARGS, PEER_ARGS. Exits 1 when unpu
# is slower anywhere.
set -eu

[ $# -ge 2 ] || { echo 'usage: tests/bench/peers.sh PEER_DIR MODEL...' >&2; exit 2; }
unpu=${UNPU:-$(dirname "$0")/../../build/unpu}
rounds=${ROUNDS:-3} threads=${THREADS:-1 2} prompt=${PROMPT:-128} generate=${GENERATE:-64}
peer=
for place in "$1" "$1/bin" "$1/build/bin"; do
	[ -x "$place/llama-bench" ] && peer=$place/llama-bench
done
[ -n "$peer" ] || { echo "peers.sh: no llama-bench under $1" >&2; exit 2; }
[ -x "$unpu" ] || { echo "peers.sh: no $unpu; run make" >&2; exit 2; }
shift

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# One process and one repetition each per turn, so that a slow spell of the machine meets both.
for model in "$@"; do
	for t in $threads; do
		for round in $(seq "$rounds"); do
			name=$results/$(basename "$model").$t.$round
			"$unpu" bench "$model" --json -p "$prompt" -n "$generate" -t "$t" -r 1 \
				${UNPU_ARGS:-} >"$name.unpu"
			"$peer" -m "$model" -p "$prompt" -n "$generate" -t "$t" -r 1 -o json \
				${PEER_ARGS:-} >"$name.peer" 2>/dev/null
		done
	done
done

exec python3 - "$results" <<'EOF_PYTHON'
import collections
import json
import os
import statistics
import sys


def median(value):
    return value["median"] if isinstance(value, dict) else value


def rates(path, who):
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if who == "unpu":
        return {"prompt": median(data["prefill_tps"]), "decode": median(data["decode_tps"])}
    return {"decode" if row["n_gen"] else "prompt": row["avg_ts"] for row in data}


runs = collections.defaultdict(lambda: collections.defaultdict(list))
for name in sorted(os.listdir(sys.argv[1])):
    model, threads, _, who = name.rsplit(".", 3)
    for what, rate in rates(os.path.join(sys.argv[1], name), who).items():
        runs[model, threads, what][who].append(rate)

print(f"{'model':32} thr what   {'unpu tok/s':>10} {'(min to max)':>17} "
      f"{'peer tok/s':>10} {'(min to max)':>17}  ratio")
slower = 0
for (model, threads, what), by in sorted(runs.items()):
    cells = []
    for who in ("unpu", "peer"):
        spread = f"({min(by[who]):.1f} to {max(by[who]):.1f})"
        cells.append(f"{statistics.median(by[who]):10.1f} {spread:>17}")
    ratio = statistics.median(by["unpu"]) / statistics.median(by["peer"])
    slower += ratio < 1
    print(f"{model[:32]:32} {threads:>3} {what:6} {' '.join(cells)}  {ratio:5.2f}")
print(f"unpu is slower in {slower} of {len(runs)}")
sys.exit(slower > 0)
EOF_PYTHON
