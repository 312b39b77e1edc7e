#!/bin/bash
# SPDX-License-Identifier: MIT
# A Vulkan device that is lost, hangs, computes wrong numbers or has no memory left, at any submit:
# the command ends well with one warning, the text is whole, and from there on the ids are the cpu's
# over the same history.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

hooked=${UNPU_BUILD:-$root/build}/tests/hooked/unpu
if [ ! -x "$hooked" ]; then
	skip 'faults of Vulkan devices' 'no command with hooks (a build without Vulkan)'
	finish
fi
unpu=("$hooked")
export XDG_CACHE_HOME=$work/cache
mkdir "$XDG_CACHE_HOME"
if ! timeout 60 "$hooked" devices 2>/dev/null | grep -q '^vulkan:0'; then
	skip 'faults of Vulkan devices' 'no Vulkan device'
	finish
fi

# $1: fault, then the command's arguments. A device that failed in its first use is refused
# afterwards: each run has a cache of its own, with the compiled shaders of the first.
faulty() {
	local fault=$1
	shift
	rm -rf "$work/cache"
	cp -r "$work/clean" "$work/cache"
	UNPU_FAULT=vulkan:$fault timeout 120 "$hooked" "$@" -d vulkan:0 >"$work/out" 2>"$work/err" \
		</dev/null
	status=$?
}

one_warning() {
	is_one_line 0 'vulkan:0: ' && grep -q '^unpu: warning: .*; going on on cpu$' "$work/err"
}

make_tiny llama f32 vocab=300 context=256
floats=$tiny
make_tiny llama q8_0 vocab=300 context=256
quants=$tiny
ids='1 72 104 111 111 114 35 122 9 54 17 200 3 3 81'
greedy=24

run run "$floats" -d vulkan:0 -p 'Hello' -n 3 --temp 0
check 'a run without a fault' is_quiet
cp -r "$work/cache" "$work/clean"

points='1 2 5'
[ -z "$slow" ] || points=4
faults=
for n in $points; do
	faults="$faults lost@$n corrupt@$n oom@$n"
done

# ---- weights of F32: all of the text is the cpu's ----

for sampler in '--temp 0' '--temp 1.2 --seed 5 --repeat-penalty 1.2'; do
	# shellcheck disable=SC2086
	run run "$floats" -d cpu -p 'Hello world' -n 30 $sampler
	cp "$work/out" "$work/right"
	for fault in hang@3 $faults; do
		# shellcheck disable=SC2086
		faulty "$fault" run "$floats" -p 'Hello world' -n 30 $sampler
		check "run $sampler, $fault: one warning" one_warning
		check "run $sampler, $fault: the text is whole" cmp "$work/right" "$work/out"
	done
done
run eval "$floats" -d cpu --tokens "$ids" --greedy "$greedy"
cp "$work/out" "$work/right"
for fault in $faults; do
	faulty "$fault" eval "$floats" --tokens "$ids" --greedy "$greedy"
	check "eval --greedy, $fault: one warning" one_warning
	check "eval --greedy, $fault: the ids" cmp "$work/right" "$work/out"
done
{ faulty none@1 run "$floats" -p x -n 1; } 2>/dev/null
check 'a fault that is misspelt ends the program' [ "$status" -ge 128 ]

# ---- quantised weights: the tokens before the fault are the device's own ----

# $1: how many of the ids in $work/out the device may have made: those after them are the cpu's.
follows() {
	local made
	made=$(cut -d ' ' -f "1-$1" "$work/out")
	[ "$1" != 0 ] || made=
	"$hooked" eval "$quants" -d cpu --tokens "$ids $made" --greedy $((greedy - $1)) \
		>"$work/rest" 2>/dev/null </dev/null
	cmp -s "$work/rest" <(cut -d ' ' -f "$(($1 + 1))-" "$work/out")
}

# There is a place from which on the ids are the cpu's, and up to which they are the device's.
keeps_the_rule() {
	local k
	for k in $(seq 0 $((greedy - 1))); do
		follows "$k" && return
		cmp -s <(cut -d ' ' -f "1-$((k + 1))" "$work/out") \
			<(cut -d ' ' -f "1-$((k + 1))" "$work/alone") || break
	done
	echo "ids: $(cat "$work/out")"
	return 1
}

run eval "$quants" -d vulkan:0 --tokens "$ids" --greedy "$greedy"
check 'eval --greedy without a fault' is_quiet
cp "$work/out" "$work/alone"
for fault in $faults; do
	faulty "$fault" eval "$quants" --tokens "$ids" --greedy "$greedy"
	check "q8_0, $fault: one warning" one_warning
	check "q8_0, $fault: the rule" keeps_the_rule
done

# ---- logits, and sessions on disk ----

run eval "$floats" -d cpu --tokens "$ids" --logits "$work/right"
for fault in lost@1 corrupt@1 oom@2; do
	faulty "$fault" eval "$floats" --tokens "$ids" --logits "$work/logits" --batch 4
	check "eval --logits, $fault: one warning" one_warning
	same "eval --logits, $fault: all of them" "$(stat -c %s "$work/right")" \
		"$(stat -c %s "$work/logits")"
done
run run "$floats" -d cpu -p 'Hello world' -n 20 --temp 0
cp "$work/out" "$work/whole"
for fault in lost corrupt oom; do
	for n in 5 9 10; do
		faulty "$fault@$n" run "$floats" -p 'Hello world' -n 8 --temp 0 \
			--save "$work/session"
		cp "$work/out" "$work/first"
		check "--save, $fault@$n: a warning at most" [ "$status $(wc -l <"$work/err")" \
			= "0 $(grep -c 'going on on cpu$' "$work/err")" ]
		run run "$floats" -d cpu --load "$work/session" -n 12 --temp 0
		check "--load of what was saved with $fault@$n" \
			cmp "$work/whole" <(head -c -1 "$work/first"; cat "$work/out")
	done
done
rm -rf "$work/cache"
cp -r "$work/clean" "$work/cache"
run run "$floats" -d vulkan:0 -p 'Hello world' -n 8 --temp 0 --save "$work/session"
cp "$work/out" "$work/first"
for fault in lost@1 corrupt@2 oom@1; do
	faulty "$fault" run "$floats" --load "$work/session" -n 12 --temp 0
	check "--load, $fault: one warning" one_warning
	check "--load, $fault: the text goes on" \
		cmp "$work/whole" <(head -c -1 "$work/first"; cat "$work/out")
done
finish
