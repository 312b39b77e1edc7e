#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions per multiply-add of every NEON mm twin, whole calls (rows x k as in SmolLM2-135M),
# counted under qemu: repeatable to the instruction. With the cycles that llvm-mca simulates for
# them, where it is there.
#   tests/bench/insns.sh [BUILD_DIR]            the table; 1 when a goal is missed or a twin has
#                                               grown by more than 2 % over results/insns.txt
#   tests/bench/insns.sh --accept [BUILD_DIR]   and what it says is what later ones are held to
#   tests/bench/insns.sh --check [BUILD_DIR]    for tests/run: a test for each figure, and whether
#                                               growth would be noticed; nothing simulated
set -eu
cd "$(dirname "$0")/../.."

what=table
case ${1:-} in
--accept | --check) what=${1#--}; shift ;;
-*) echo 'usage: tests/bench/insns.sh [--accept | --check] [BUILD_DIR]' >&2; exit 2 ;;
esac
out=${1:-build/insns}
cross=aarch64-linux-gnu-

skip() {
	[ $what != check ] || { echo "SKIP $1"; echo '0 passed, 0 failed, 1 skipped'; exit 0; }
	echo "insns: skipped: $1" >&2
	exit 77
}
command -v ${cross}gcc >/dev/null || skip "no ${cross}gcc (tools/setup test)"
command -v qemu-aarch64 >/dev/null || skip 'no qemu-aarch64 (tools/setup test)'

mkdir -p "$out"
cc -std=gnu11 -O2 -Wall -Wextra -I. -shared -fPIC -o "$out/insncount.so" tests/bench/insncount.c
nice make -s CROSS=$cross O="$out" "$out/tests/bench/insns" >&2

# Its own mark, so that a plugin that does not load is no success.
guest() { # counts, words of the guest
	counts=$1; shift
	rm -f "$counts"
	qemu-aarch64 -L /usr/${cross%-} -cpu cortex-a76 \
		-plugin "$out/insncount.so,out=$counts" "$out/tests/bench/insns" "$@" \
		>"$counts.cells"
	test -s "$counts"
}
guest "$out/counts" || skip 'this qemu-aarch64 loads no plugin of version 1'
guest "$out/again" again

compiler="${cross}gcc $(${cross}gcc -dumpfullversion)"
exec python3 tests/bench/insns.py $what "$compiler" tests/bench/results/insns.txt \
	"$out/counts" "$out/again"
