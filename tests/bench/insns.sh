#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions per multiply-add of every NEON mm twin, whole calls (rows x k as in SmolLM2-135M),
# counted under qemu: repeatable to the instruction, so a goal that is missed is a failure.
#   tests/bench/insns.sh [BUILD_DIR]
set -eu
cd "$(dirname "$0")/../.."

cross=aarch64-linux-gnu-
out=${1:-build/insns}
rows=192 k=576

skip() { echo "insns: skipped: $1" >&2; exit 77; }
command -v ${cross}gcc >/dev/null || skip "no ${cross}gcc"
command -v qemu-aarch64 >/dev/null || skip "no qemu-aarch64 (package qemu-user)"

mkdir -p "$out"
cc -O2 -Wall -Wextra -shared -fPIC -o "$out/insncount.so" tests/bench/insncount.c
make -s CROSS=$cross O="$out" "$out/tests/bench/insns" >&2

guest() { # cpu, words
	cpu=$1; shift
	qemu-aarch64 -L /usr/${cross%-} -cpu "$cpu" -plugin "$out/insncount.so" \
		"$out/tests/bench/insns" "$@" 2>&1 >/dev/null | sed -n 's/^insns //p'
}

test -n "$(guest cortex-a72 list)" || skip "this qemu-aarch64 loads no plugin of version 1"

goal() { # layout and class, tokens
	case "$1 $2" in
	"q4r8-k16_a8 1") echo 0.35 ;;
	"q4r8-k16_a8 4") echo 0.27 ;;
	"q4r8-k4_a8 1") echo 0.22 ;;
	"q4r8-k4_a8 4") echo 0.16 ;;
	esac
}

# What two calls more cost, so that start, end and allocation drop out.
count() { # cpu, layout, class, tokens
	few=$(guest "$1" "$2" "$3" $rows $k "$4" 1)
	many=$(guest "$1" "$2" "$3" $rows $k "$4" 3)
	awk "BEGIN { printf \"%.3f\", ($many - $few) / (2.0 * $rows * $k * $4) }"
}

bad=0
cell() { # cpu, layout, class, name, tokens
	value=$(count "$1" "$2" "$3" "$5") limit=$(goal "$4" "$5") mark=
	if test -n "$limit" && awk "BEGIN { exit !($value > $limit) }"; then
		mark='!' bad=1
	fi
	text="$value$mark${limit:+ (<= $limit)}"
}

printf '%-11s %-16s %-18s %s\n' cpu twin '1 token' '4 tokens'
for cpu in cortex-a72 cortex-a76; do
	qemu-aarch64 -L /usr/${cross%-} -cpu $cpu "$out/tests/bench/insns" list >"$out/list"
	while read -r layout class name; do
		cell $cpu "$layout" "$class" "$name" 1
		one=$text
		cell $cpu "$layout" "$class" "$name" 4
		printf '%-11s %-16s %-18s %s\n' $cpu "$name" "$one" "$text"
	done <"$out/list"
done
test $bad = 0 || echo "insns: above the goal where marked '!'" >&2
exit $bad
