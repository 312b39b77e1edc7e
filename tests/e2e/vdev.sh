#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu-vdev on the command line: its options, and what it says and leaves when it begins and ends.
# What it does for guests is tests/unit/vdev_*.c's and the virtual machine's.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

vdev=("${unpu[@]}")
vdev[-1]+=-vdev
socket=$work/sock

vdev() { timeout 60 "${vdev[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null; }

# $1: what must hold, $2: exit status, $3: a word of its one line, the rest: arguments
wrong() {
	local what=$1 want=$2 word=$3 status
	shift 3
	vdev "$@"
	status=$?
	same "$what: exit status" "$want" "$status"
	same "$what: lines" 1 "$(wc -l <"$work/err")"
	check "$what: says so" grep -qF -- "$word" "$work/err"
	same "$what: whose line" unpu-vdev: "$(cut -d ' ' -f 1 "$work/err")"
}

check '--help' vdev --help
check '--help has the line for QEMU' grep -q -- \
	'-chardev socket,path=SOCKET,id=unpu -device ivshmem-doorbell,chardev=unpu,vectors=2' \
	"$work/out"
check '--version' vdev --version
check '--version says one' grep -qE '^unpu-vdev [0-9]' "$work/out"

wrong 'no socket' 2 'which socket?'
wrong 'two sockets' 2 'one socket' "$socket" "$socket"
wrong 'an unknown engine' 2 'is no engine' -d gpu "$socket"
wrong 'an engine without a number' 2 'is no engine' -d vulkan: "$socket"
wrong 'a window of no power of two' 2 'power of two' --window 65M "$socket"
wrong 'a small window' 2 '4M to 16384M' --window 1M "$socket"
wrong 'a window that overflows' 2 '4M to 16384M' --window 99999999999G "$socket"
wrong 'memory that is no size' 2 '--memory takes' --memory lots "$socket"
wrong 'no guests' 2 '--guests takes' --guests 0 "$socket"
wrong 'too many guests' 2 '--guests takes' --guests 65 "$socket"
wrong 'negative threads' 2 '--threads takes' -t -1 "$socket"
wrong 'an unknown group' 2 'no group' --group no-such-group "$socket"
wrong 'a folder that is not there' 1 'cannot open the folder' "$work/none/sock"
vdev -d vulkan:99 "$socket"
same 'a GPU that is not there: exit status' 1 $?
check 'a GPU that is not there: says so' grep -q 'vulkan:99 does not open' "$work/err"
check 'and no socket is left' [ ! -e "$socket" ]

"${vdev[@]}" -t 1 --stats "$socket" 2>"$work/log" &
pid=$!
for ((i = 0; i < 300; i++)); do
	grep -q 'serves up to' "$work/log" && break
	sleep 0.1
done
check 'it serves' [ -S "$socket" ]
same 'the mode of the socket' 600 "$(stat -c %a "$socket")"
wrong 'a second one' 1 'served by another process' "$socket"
for ((i = 0; i < 100; i++)); do
	grep -q '0 guests, 0 contexts' "$work/log" && break
	sleep 0.1
done
check '--stats tells' grep -q '0 guests, 0 contexts' "$work/log"
kill -TERM $pid
wait $pid
same 'SIGTERM: exit status' 0 $?
check 'SIGTERM: the socket is gone' [ ! -e "$socket" ]
finish
