#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu and others in turn on the same files: tests/bench/peers.sh PEER_DIR[,OPTION]... -- MODEL...
# (one peer needs no --: peers.sh PEER_DIR MODEL...). PEER_DIR holds llama-bench (itself, in bin/ or
# in build/bin/), of llama.cpp or ik_llama.cpp; what follows a comma goes to that one alone:
# "ik_llama.cpp,-rtr,1" repacks at load. Environment: UNPU (build/unpu), ROUNDS (3), THREADS
# ("1 2"), PROMPT (128), GENERATE (64), UNPU_ARGS, PEER_ARGS. unpu decodes behind the prompt, others
# at the beginning. Medians, quartiles and ratios against the best peer; 1 when unpu is slower
# anywhere.
set -eu

usage() { echo 'usage: tests/bench/peers.sh PEER_DIR[,OPTION]... -- MODEL...' >&2; exit 2; }
unpu=${UNPU:-$(dirname "$0")/../../build/unpu}
rounds=${ROUNDS:-3} threads=${THREADS:-1 2} prompt=${PROMPT:-128} generate=${GENERATE:-64}
peers=()
add_peer() { # as the command line has it
	local dir=${1%%,*} place found=
	for place in "$dir" "$dir/bin" "$dir/build/bin"; do
		[ ! -x "$place/llama-bench" ] || found=$place/llama-bench
	done
	[ -n "$found" ] || { echo "peers.sh: no llama-bench under $dir" >&2; exit 2; }
	peers+=("$found${1#"$dir"}")
}

[ $# -ge 2 ] || usage
case " $* " in
*' -- '*)
	while [ "$1" != -- ]; do
		add_peer "$1"
		shift
	done ;;
*) add_peer "$1" ;;
esac
shift
[ $# -ge 1 ] && [ ${#peers[@]} -ge 1 ] || usage
[ -x "$unpu" ] || { echo "peers.sh: no $unpu; run make" >&2; exit 2; }

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

run_peer() { # number, model, threads
	local words
	IFS=, read -r -a words <<<"${peers[$1]}"
	# shellcheck disable=SC2086
	"${words[@]}" -m "$2" -p "$prompt" -n "$generate" -t "$3" -r 1 -o json ${PEER_ARGS:-} \
		2>/dev/null
}

# One process and one repetition each per turn, so that a slow spell of the machine meets all.
for model in "$@"; do
	for t in $threads; do
		for round in $(seq "$rounds"); do
			name=$results/$(basename "$model" .gguf)=$t=$round
			# shellcheck disable=SC2086
			"$unpu" bench "$model" --json -p "$prompt" -n "$generate" -t "$t" -r 1 \
				${UNPU_ARGS:-} >"$name=unpu"
			for peer in "${!peers[@]}"; do
				run_peer "$peer" "$model" "$t" >"$name=peer $((peer + 1))"
			done
		done
	done
done

for peer in "${!peers[@]}"; do
	echo "peer $((peer + 1)): ${peers[$peer]//,/ }"
done
exec python3 - "$results" <<'EOF_PYTHON'
import collections
import json
import os
import statistics
import sys


def rates(path, who):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if who == "unpu":
        data = json.loads(text)
        return {"prompt": data["prefill_tps"]["median"], "decode": data["decode_tps"]["median"]}
    # ik_llama.cpp says what it thinks of the file there, too.
    data = json.loads(text[text.index("[\n"):])
    return {"decode" if row["n_gen"] else "prompt": row["avg_ts"] for row in data}


def quartiles(values):
    values = sorted(values)
    if len(values) < 3:
        return values[0], values[-1]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


runs = collections.defaultdict(lambda: collections.defaultdict(list))
for name in sorted(os.listdir(sys.argv[1])):
    model, threads, _, who = name.split("=")
    for what, rate in rates(os.path.join(sys.argv[1], name), who).items():
        runs[model, threads, what][who].append(rate)

everyone = sorted({who for by in runs.values() for who in by}, key=lambda who: (who != "unpu", who))
print("| file | threads | what | " + " | ".join(everyone) + " | ratio to the best peer |")
print("| --- " * (len(everyone) + 4) + "|")
slower = 0
for (model, threads, what), by in sorted(runs.items()):
    cells = []
    for who in everyone:
        low, high = quartiles(by[who])
        cells.append(f"{statistics.median(by[who]):.1f} ({low:.1f} to {high:.1f})")
    best = max(everyone[1:], key=lambda who: statistics.median(by[who]))
    # Turn by turn, for the spread; the ratio itself is that of the medians.
    low, high = quartiles([ours / theirs for ours, theirs in zip(by["unpu"], by[best])])
    ratio = statistics.median(by["unpu"]) / statistics.median(by[best])
    slower += ratio < 1
    print(f"| {model} | {threads} | {what} | {' | '.join(cells)} | {ratio:.2f} ({low:.2f} to "
          f"{high:.2f}) |")
print(f"unpu is slower in {slower} of {len(runs)}")
sys.exit(slower > 0)
EOF_PYTHON
