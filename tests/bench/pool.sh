#!/bin/bash
# SPDX-License-Identifier: MIT
# What is left of the speed when processors are short: tests/bench/pool.sh MODEL
#
# Tokens per second with one thread for each usable processor and nothing beside are 1.00; the
# other conditions are measured in turn with it and shown as ratios of the medians:
#   over      OVER threads (8), however few processors there are
#   clamped   OVER threads with --clamp: no more than there are processors
#   auto      no -t
#   one       one thread
#   busy N    a thread for each processor, N endless loops of the shell beside
#   one busy N, over busy N, clamped busy N  likewise
# `fair` is what the scheduler owes: threads of the pool, at most one a processor, in the company of
# N others; it is the most that can be expected on average where nothing else runs. The
# loops run in a scheduling group of their own with APART=1 (setsid, where the kernel groups by
# session), else in that of the threads.
#
# Environment: UNPU (build/unpu), ROUNDS (7), PROMPT (64), GENERATE (96), BUSY ("1 2 8"), OVER (8).
# Exits 1 unless over and over busy reach 0.3 in decode, and clamped 0.7, beside loops 0.7 of what
# is fair.
set -eu

[ $# -eq 1 ] || { echo 'usage: tests/bench/pool.sh MODEL' >&2; exit 2; }
unpu=${UNPU:-$(dirname "$0")/../../build/unpu}
[ -x "$unpu" ] || { echo "pool.sh: no $unpu; run make" >&2; exit 2; }
model=$1 rounds=${ROUNDS:-7} over=${OVER:-8} busy=${BUSY:-1 2 8} cpus=$(nproc)
most=$(printf '%s\n' $busy | sort -n | tail -1)
clamp=--clamp apart=
"$unpu" bench --help | grep -q -e --clamp || clamp=
[ "${APART:-0}" = 0 ] || apart=setsid

results=$(mktemp -d)
loops=()
end() {
	[ ${#loops[@]} -eq 0 ] || kill "${loops[@]}" 2>/dev/null || true
	loops=()
}
trap 'end; rm -rf "$results"' EXIT

# one NAME BUSY OPTIONS...: one process, one repetition
one() {
	local name=$1 n=$2

	shift 2
	for _ in $(seq "$n"); do
		$apart sh -c 'while :; do :; done' &
		loops+=($!)
		disown
	done
	"$unpu" bench "$model" --json -r 1 -p "${PROMPT:-64}" -n "${GENERATE:-96}" "$@" \
		>"$results/$name:$n:$round"
	end
}

for round in $(seq "$rounds"); do
	one even 0 -t "$cpus"
	one over 0 -t "$over"
	one clamped 0 -t "$over" $clamp
	one auto 0
	one one 0 -t 1
	for n in $busy; do
		one even "$n" -t "$cpus"
		one one "$n" -t 1
	done
	one over "$most" -t "$over"
	one clamped "$most" -t "$over" $clamp
done

exec python3 - "$results" "$cpus" "$over" "$most" <<'EOF_PYTHON'
import collections
import json
import os
import statistics
import sys

place, cpus, over, most = sys.argv[1], *map(int, sys.argv[2:])
runs = collections.defaultdict(lambda: collections.defaultdict(list))
for name in sorted(os.listdir(place)):
    who, busy, _ = name.split(":")
    with open(os.path.join(place, name), encoding="utf-8") as file:
        data = json.load(file)
    for what in ("decode", "prefill"):
        rate = data[what + "_tps"]
        rate = rate["median"] if isinstance(rate, dict) else rate
        runs[who, int(busy)][what].append(rate)
whole = {what: statistics.median(rates) for what, rates in runs["even", 0].items()}


def fair(who, busy):
    threads = {"one": 1, "over": over}.get(who, cpus)
    return min(1.0, threads / cpus, threads / (threads + busy))


def cell(rates, base):
    low, high = min(rates) / base, max(rates) / base
    return f"{statistics.median(rates) / base:5.2f} ({low:4.2f} to {high:4.2f})"


print("condition         fair  decode                prompt")
ratios = {}
for (who, busy), by in sorted(runs.items(), key=lambda run: (run[0][1], run[0][0])):
    ratios[who, busy] = statistics.median(by["decode"]) / whole["decode"]
    print(f"{who:8} {f'busy {busy}' if busy else '':8} {fair(who, busy):4.2f} "
          f"{cell(by['decode'], whole['decode'])}  {cell(by['prefill'], whole['prefill'])}")
bad = [f"{who} busy {busy}: {ratios[who, busy]:.2f}, wanted {least:.2f}"
       for (who, busy), least in (
           (("over", 0), 0.3), (("over", most), 0.3), (("clamped", 0), 0.7),
           (("clamped", most), 0.7 * fair("clamped", most)))
       if ratios[who, busy] < least]
print("\n".join(bad) or "all that is wanted is reached")
sys.exit(bool(bad))
EOF_PYTHON
