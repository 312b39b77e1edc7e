#!/bin/bash
# SPDX-License-Identifier: MIT
# Which device -d auto takes and why, what `unpu devices` says of GPUs, and what becomes of drivers
# that crash, hang or are not there. Needs a Vulkan driver, lavapipe will do: the hooked command
# takes it for a GPU when UNPU_VK_TYPE says so.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

build=${UNPU_BUILD:-$root/build}
hooked=$build/tests/hooked/unpu
export XDG_CACHE_HOME=$work/cache
memory=$XDG_CACHE_HOME/unpu/verdicts
marker=$XDG_CACHE_HOME/unpu/first-use.vulkan:0
unset UNPU_FAULT UNPU_VK_LIMITS UNPU_VK_TYPE UNPU_PROBE

if [ ! -x "$hooked" ] || [ ! -x "$build/unpu-probe" ]; then
	skip 'devices of Vulkan' 'a build without Vulkan'
	finish
fi
if [ -n "$slow" ]; then
	skip 'devices of Vulkan' 'drivers under a sanitizer or an emulator'
	finish
fi
make_tiny llama f32
model=$tiny
text=(run "$model" -p 'Hello world' -n 6 --temp 0)

device_of() { sed -n 's/^device  *\([^,]*\),.*/\1/p' "$work/err"; }

# ---- without a driver ----

(
	export VK_ICD_FILENAMES=/nonexistent.json VK_DRIVER_FILES=/nonexistent.json
	run devices
	cp "$work/out" "$work/devices"
	echo "$status" >"$work/status"
	run "${text[@]}"
	cp "$work/err" "$work/auto"
	cp "$work/out" "$work/text"
	run "${text[@]}" -d vulkan:0
	is_one_line 1 'no device vulkan:0' >"$work/explicit"
)
same 'no driver: devices ends well' 0 "$(cat "$work/status")"
same 'no driver: devices lists the cpu' cpu \
	"$(grep -v '^sandbox\|^ ' "$work/devices" | cut -d' ' -f1)"
same 'no driver: auto says nothing' '' "$(cat "$work/auto")"
same 'no driver: -d vulkan:0 is one line' '' "$(cat "$work/explicit")"
run "${text[@]}" -d cpu
check 'the cpu' is_quiet
cp "$work/out" "$work/wanted"
check 'no driver: auto is the cpu' cmp "$work/text" "$work/wanted"

# ---- without a probe ----

mkdir "$work/alone"
cp "$build/unpu" "$work/alone/unpu"
if [ -e /usr/local/libexec/unpu/unpu-probe ]; then
	skip 'no probe' 'one is installed'
else
	"$work/alone/unpu" devices >"$work/out" 2>"$work/err"
	same 'no probe: devices ends well' 0 $?
	check 'no probe: devices says so' grep -q 'not usable: the program unpu-probe' "$work/out"
	"$work/alone/unpu" "${text[@]}" >"$work/out" 2>"$work/err" </dev/null
	check 'no probe: auto is the cpu' cmp "$work/out" "$work/wanted"
	same 'no probe: auto says nothing' '' "$(cat "$work/err")"
fi

# ---- with somebody else's ----

mkdir -p "$work/strange"
cp "$build/unpu" "$work/strange/unpu"
printf '#!/bin/sh\ntouch "%s"\n' "$work/was-run" >"$work/strange/unpu-probe"
chmod 755 "$work" "$work/strange" "$work/strange/unpu-probe"
if chown 65533 "$work/strange/unpu-probe" 2>/dev/null; then
	"$work/strange/unpu" devices >"$work/out" 2>"$work/err"
	same "somebody else's probe: devices ends well" 0 $?
	check "somebody else's probe is not run" test ! -e "$work/was-run"
else
	skip "somebody else's probe" 'only root gives files away'
fi

# ---- with one ----

run devices
check 'devices' is_quiet
if ! grep -q '^vulkan:0 ' "$work/out"; then
	skip 'devices of Vulkan' 'this machine has no Vulkan driver'
	finish
fi
if ! grep -A1 '^vulkan:0 ' "$work/out" | grep -q 'never takes'; then
	skip 'devices of Vulkan' 'vulkan:0 is a GPU: its answers are those of other tests'
	finish
fi
pass
same 'the cpu is preferred' cpu "$(head -n 1 "$work/out" | cut -d' ' -f1)"
run devices --json
check 'devices --json' "$python" -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert [x["id"] for x in d][:2] == ["cpu", "vulkan:0"], d
assert d[1]["usable"] and not d[1]["preferred"] and "never" in d[1]["verdict"], d' "$work/out"
run "${text[@]}" --stats
same 'auto never takes a CPU' cpu "$(device_of)"
plain=$(sed -n 's/^sandbox  //p' "$work/err")
run "${text[@]}" --stats -d cpu
same 'and then has the sandbox of -d cpu' "$plain" "$(sed -n 's/^sandbox  //p' "$work/err")"
run "${text[@]}" -d vulkan:9
check 'an id beyond the count' is_one_line 1 'vulkan:9'

# First use: it was good, and no marker is left.
run "${text[@]}" -d vulkan:0 --stats
same 'vulkan:0' 'vulkan:0' "$(device_of)"
check 'the same text' cmp "$work/out" "$work/wanted"
check 'good answers are remembered' grep -q '^good .* vulkan:0	' "$memory"
check 'no marker is left' test ! -e "$marker"
case $plain in
none*) skip 'the sandbox with a GPU' "$plain" ;;
*) same 'the sandbox with a GPU' "$plain, with a GPU" "$(sed -n 's/^sandbox  //p' "$work/err")" ;;
esac

# ---- a first use that does not end ----

unpu=("$hooked")
rm -f "$memory"
UNPU_FAULT=vulkan:hang@1 "$hooked" "${text[@]}" -d vulkan:0 >/dev/null 2>&1 </dev/null &
pid=$!
for _ in $(seq 200); do
	[ -e "$marker" ] && break
	sleep 0.05
done
check 'a marker while it lasts' test -e "$marker"
run devices
check 'and nobody else is refused' grep -q '^vulkan:0 ' "$work/out"
same 'not by a process that lives' '' "$(grep 'did not come back' "$work/out")"
# Its sandbox keeps a command from seeing whose marker that is.
if kill -STOP $pid 2>/dev/null; then
	run "${text[@]}" -d vulkan:0
	check 'nor a command' cmp "$work/out" "$work/wanted"
fi
kill -KILL $pid
wait $pid 2>/dev/null
check 'the marker outlives it' test -e "$marker"
run "${text[@]}" -d vulkan:0
# shellcheck disable=SC2016
check 'then the device is refused' is_one_line 1 'unpu devices --retry'
run "${text[@]}"
check 'auto goes on' is_quiet
run devices
check 'devices says why' grep -q 'not usable: did not come back' "$work/out"
run devices --retry
check 'devices --retry' is_quiet
same 'forgets it' '' "$(grep 'not usable' "$work/out")"
check 'and the marker' test ! -e "$marker"
run "${text[@]}" -d vulkan:0
check 'and it works again' cmp "$work/out" "$work/wanted"

# Nobody but the user ended these.
for signal in INT TERM HUP; do
	rm -f "$memory"
	UNPU_FAULT=vulkan:hang@1 env --default-signal=INT,HUP "$hooked" "${text[@]}" -d vulkan:0 \
		>/dev/null 2>&1 </dev/null &
	pid=$!
	for _ in $(seq 200); do
		[ -e "$marker" ] && break
		sleep 0.05
	done
	check "SIG$signal: a marker while it lasts" test -e "$marker"
	kill -$signal $pid
	wait $pid 2>/dev/null
	check "SIG$signal: none afterwards" test ! -e "$marker"
done

# ---- a probe that dies ----

# Where a GPU has no node a probe that is named stands for one.
export UNPU_PROBE=$build/unpu-probe UNPU_VK_TYPE=integrated
export UNPU_FAULT=vulkan:crash-in-probe
run devices --retry
check 'a probe that dies' is_quiet
check 'is a verdict' grep -q 'probe died: signal' "$work/out"
run "${text[@]}" --stats
same 'and auto the cpu' cpu "$(device_of)"
check 'with its text' cmp "$work/out" "$work/wanted"
unset UNPU_FAULT
run "${text[@]}" --stats
same 'which is remembered' cpu "$(device_of)"
check 'for the model' grep -q 'probe died' "$memory"

# ---- a trial ----

rm -f "$memory"
run "${text[@]}" --stats
check 'a trial leaves a verdict' grep -q '^verdict .* vulkan:0 ' "$memory"
check 'and the text' cmp "$work/out" "$work/wanted"
if grep '^verdict' "$memory" | grep -q 'hung'; then
	skip 'the verdict of lavapipe' 'it was too slow to be tried out'
	finish
fi
check 'no answer was wrong' grep -q '	\(use\|cpu\) f[^ ]* [1-9]' "$memory"
cp "$memory" "$work/memory"
run "${text[@]}"
check 'the second time nothing is tried' cmp "$memory" "$work/memory"

# As if it were the faster one.
sed -i -e 's/	cpu \(f[^ ]*\) \([0-9]* [0-9]*\) .*/	use \1 \2 ./' -e 's/	cpu$/	vulkan:0/' \
	"$memory"
run "${text[@]}" --stats
same 'auto takes the faster one' vulkan:0 "$(device_of)"
check 'its text is the same' cmp "$work/out" "$work/wanted"
VK_ICD_FILENAMES=/nonexistent.json run "${text[@]}"
check 'a driver that went away' is_quiet
check 'leaves the text' cmp "$work/out" "$work/wanted"

# ---- a damaged file ----

for damage in 'head -c 3000 /dev/urandom' "head -c 100 $work/memory" 'yes verdict' 'printf x'; do
	($damage 2>/dev/null | head -c 100000) >"$memory"
	run "${text[@]}" -d vulkan:0
	check "damaged by $damage: the text" cmp "$work/out" "$work/wanted"
	same "damaged by $damage: one line" 1 "$(wc -l <"$work/err")"
	check "damaged by $damage: which" grep -q '^unpu: .*damaged' "$work/err"
done
finish
