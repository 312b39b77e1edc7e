#!/bin/bash
# SPDX-License-Identifier: MIT
# The command with nodes of the kernel driver: what it writes, what it says when there is none or no
# right to one, what `unpu devices` and -d auto make of them, and that the sandbox leaves them be.
# The kernel is in the process (tests/hooks/accel.h); tests/vm has the real one.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

build=${UNPU_BUILD:-$root/build}
hooked=$build/tests/hooked/unpu
export XDG_CACHE_HOME=$work/cache
unset UNPU_FAULT UNPU_PROBE

if [ ! -x "$hooked" ] || grep -q 'ACCEL=0' "$build/.flags"; then
	skip 'nodes of the kernel driver' 'a build with ACCEL=0'
	finish
fi
make_tiny llama f32
model=$tiny
text=(run "$model" -p 'Hello world' -n 24 --temp 0)

# ---- without a node, on the machine as it is ----

if [ ! -e /dev/accel ] && [ ! -e /sys/module/unpu ]; then
	run "${text[@]}" -d accel:0
	check 'no node' is_one_line 1 'modprobe unpu'
else
	skip 'no node' 'this machine has /dev/accel'
fi
run "${text[@]}" -d accel:007
check 'no number of a node' is_one_line 1 'accel:N'

# ---- with nodes ----

unpu=("$hooked")
with() { # $1: the nodes, the rest: arguments
	local -x UNPU_NODES=$1
	shift
	run "$@"
}

run "${text[@]}" -d cpu
check 'the cpu' is_quiet
cp "$work/out" "$work/wanted"
with /dev/accel/accel0=good "${text[@]}" -d accel:0
check 'a node' is_quiet
check 'a node writes what the cpu writes' cmp "$work/out" "$work/wanted"
with /dev/accel/accel0=other,/dev/dri/renderD130=good "${text[@]}" -d accel:0 --stats
check 'a render node writes it, too' cmp "$work/out" "$work/wanted"
check 'it is named' grep -q 'like a GPU' "$work/err"

with /dev/accel/accel0=denied "${text[@]}" -d accel:0
check 'no permission' is_one_line 1 'group render'
check 'no permission: the rule is named' grep -q '60-unpu.rules' "$work/err"
with /dev/accel/accel0=future "${text[@]}" -d accel:0
check 'another version' is_one_line 1 'version 2.0 of the device interface'
with /dev/accel/accel0=good "${text[@]}" -d accel:1
check 'fewer nodes' is_one_line 1 'has 1 node'

# A device that fails goes on as the cpu, in the same sandbox.
for fault in lost hang gone; do
	with "/dev/accel/accel0=$fault@20" "${text[@]}" -d accel:0
	same "$fault: it ends well" 0 "$status"
	check "$fault: the text is the same" cmp "$work/out" "$work/wanted"
	same "$fault: one warning" 1 "$(grep -c 'going on on cpu' "$work/err")"
	same "$fault: and nothing else" 1 "$(wc -l <"$work/err")"
done

# ---- what is found out of them ----

with /dev/accel/accel0=good,/dev/accel/accel1=denied,/dev/accel/accel2=wrong devices
same 'devices: the good one' 'accel:0    like a GPU, unpu 1.0.0' \
	"$(grep '^accel:0' "$work/out" | sed 's/ (auto)//')"
check 'devices: one without permission' grep -q 'not usable: no permission' "$work/out"
check 'devices: one that is wrong' grep -q 'copy.1 for 1 row' "$work/out"
with /dev/accel/accel0=denied devices --json
check 'devices: JSON' grep -q '"id":"accel:0"' <(tr -d ' \n' <"$work/out")
rm -rf "$XDG_CACHE_HOME"
with /dev/accel/accel0=good "${text[@]}" -d auto
same 'auto: it ends well' 0 "$status"
check 'auto: the text is the same' cmp "$work/out" "$work/wanted"
check 'auto remembers' grep -q 'accel:0' "$XDG_CACHE_HOME/unpu/verdicts"
rm -rf "$XDG_CACHE_HOME"
with /dev/accel/accel0=lost@3 "${text[@]}" -d auto
check 'auto: one that fails its trial' cmp "$work/out" "$work/wanted"
same 'auto: nothing is said' '' "$(cat "$work/err")"
check 'auto: nor remembered' test -z "$(grep auto "$XDG_CACHE_HOME/unpu/verdicts" 2>/dev/null)"

# A device process that stands still costs seconds, not the text.
rm -rf "$XDG_CACHE_HOME"
UNPU_NODES=/dev/accel/accel0=stuck timeout 60 "$hooked" "${text[@]}" -d auto >"$work/out" \
	2>"$work/err" </dev/null
same 'stuck: auto ends well' 0 $?
check 'stuck: auto is the cpu' cmp "$work/out" "$work/wanted"
UNPU_NODES=/dev/accel/accel0=stuck timeout 60 "$hooked" "${text[@]}" -d accel:0 >"$work/out" \
	2>"$work/err" </dev/null
status=$?
check 'stuck: it is said' is_one_line 1 'does not answer'

with /dev/accel/accel0=good bench "$model" -p 8 -n 8 -r 1 -d accel:0
same 'bench' 0 "$status"

finish
