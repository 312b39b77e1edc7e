#!/bin/bash
# SPDX-License-Identifier: MIT
# How much of the memory's speed decoding takes: tests/bench/bandwidth.sh [PEER_DIR --] MODEL...
# In turn: a streaming read of as many bytes as the weights of a model, by as many threads; decoding
# with unpu; and with the peer's llama-bench. Bytes of a token are weights as they lie in the file
# and the KV that is read for it, f16. The read is the fastest of small and huge pages, one, two and
# four streams a thread. Environment: UNPU (build/unpu), BANDWIDTH (build/tests/bench/bandwidth),
# ROUNDS (3), THREADS ("1 2"), PROMPT (112), GENERATE (32), UNPU_ARGS, PEER_ARGS.
set -eu

usage() { echo 'usage: tests/bench/bandwidth.sh [PEER_DIR --] MODEL...' >&2; exit 2; }
top=$(dirname "$0")/../..
unpu=${UNPU:-$top/build/unpu} bandwidth=${BANDWIDTH:-$top/build/tests/bench/bandwidth}
rounds=${ROUNDS:-3} threads=${THREADS:-1 2} prompt=${PROMPT:-112} generate=${GENERATE:-32}
peer=
if [ "${2:-}" = -- ]; then
	for place in "$1" "$1/bin" "$1/build/bin"; do
		[ ! -x "$place/llama-bench" ] || peer=$place/llama-bench
	done
	[ -n "$peer" ] || { echo "bandwidth.sh: no llama-bench under $1" >&2; exit 2; }
	shift 2
fi
[ $# -ge 1 ] || usage
for program in "$unpu" "$bandwidth"; do
	[ -x "$program" ] || { echo "bandwidth.sh: no $program; run make benches" >&2; exit 2; }
done

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# One process of each a turn, so that a slow spell of the machine meets all.
for model in "$@"; do
	base=$results/$(basename "$model" .gguf)
	# The middle of what is generated; the peer's begins at nothing.
	"$bandwidth" "$model" $((prompt + generate / 2)) >"$base.bytes"
	"$bandwidth" "$model" $((generate / 2)) >"$base.bytes.peer"
	read -r weights _ <"$base.bytes"
	for t in $threads; do
		for round in $(seq "$rounds"); do
			"$bandwidth" "$weights" "$t" >"$base=$t=$round=read"
			"$unpu" bench "$model" --json -p "$prompt" -n "$generate" -t "$t" -r 1 \
				${UNPU_ARGS:-} >"$base=$t=$round=unpu"
			[ -z "$peer" ] || "$peer" -m "$model" -p 0 -n "$generate" -t "$t" -r 1 \
				-o json ${PEER_ARGS:-} >"$base=$t=$round=peer" 2>/dev/null
		done
	done
done

exec python3 - "$results" <<'EOF_PYTHON'
import collections
import json
import os
import statistics
import sys


def read_bytes(name):
    with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
        return sum(int(word) for word in file.read().split())


def read_rate(path, who):
    """Of the memory: by way of reading, GB/s; of the others: tokens/s."""
    with open(path, encoding="utf-8") as file:
        if who == "read":
            lines = [line.split() for line in file]
            return {(pages, streams): float(median) for pages, streams, median, _ in lines}
        data = json.load(file)
    if who == "unpu":
        return data["decode_tps"]["median"]
    return next(row["avg_ts"] for row in data if row["n_gen"])


runs = collections.defaultdict(lambda: collections.defaultdict(list))
for name in sorted(os.listdir(sys.argv[1])):
    if "=" in name:
        model, threads, _, who = name.split("=")
        runs[model, threads][who].append(read_rate(os.path.join(sys.argv[1], name), who))

print(f"{'model':24} thr {'MB/token':>8} {'read GB/s (how)':>20} {'unpu GB/s':>9} {'of read':>14} "
      f"{'peer GB/s':>9} {'of read':>7}")
for (model, threads), by in sorted(runs.items()):
    ways = {way: statistics.median(turn[way] for turn in by["read"]) for way in by["read"][0]}
    way = max(ways, key=ways.get)
    size = read_bytes(model + ".bytes")
    # Each turn's decoding against its own reading.
    shares = [rate * size * 1e-9 / max(turn.values())
              for rate, turn in zip(by["unpu"], by["read"])]
    cells = (f"{model[:24]:24} {threads:>3} {size / 1e6:8.1f} "
             f"{ways[way]:7.2f} ({way[0]}, {way[1]})".ljust(59)
             + f"{statistics.median(by['unpu']) * size * 1e-9:8.2f} "
             f"{statistics.median(shares):4.0%} ({min(shares):.0%}-{max(shares):.0%})")
    if by["peer"]:
        size = read_bytes(model + ".bytes.peer")
        shares = [rate * size * 1e-9 / max(turn.values())
                  for rate, turn in zip(by["peer"], by["read"])]
        cells += (f" {statistics.median(by['peer']) * size * 1e-9:9.2f} "
                  f"{statistics.median(shares):7.0%}")
    print(cells)
EOF_PYTHON
