#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 300
# A GPU of the host behind the device, which is lavapipe here: texts, prompts of several rows, chat,
# two clients at a time, and what the command says of it.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

gpu_or_skip
check 'the device is there' gpu_ready

# ---- what is behind it ----

contains 'the driver says it' llvmpipe "$(dmesg | grep "$slot.*virtual NPU")"
# With a trial, which takes such a device some time.
if [ -n "${UNPU_TEST_LONG:-}" ]; then
	about=$(unpu devices 2>&1)
	contains 'devices lists it' accel:0 "$about"
	contains 'and what is behind it' llvmpipe "$about"
fi
stats=$(unpu run -d accel:0 /data/chat.gguf -p x -n 1 --stats 2>&1 >/dev/null)
contains 'what a run ran on' llvmpipe "$(echo "$stats" | grep '^device')"

# ---- texts ----

# $1: what must hold, the rest: arguments of eval --greedy; the same ids as on the cpu of the guest.
as_on_cpu() {
	what=$1
	shift
	unpu eval "$@" --greedy 12 -d cpu >/tmp/want 2>/tmp/err </dev/null
	unpu eval "$@" --greedy 12 -d accel:0 >/tmp/got 2>>/tmp/err </dev/null
	status=$?
	if [ $status = 0 ] && [ -s /tmp/want ] && cmp -s /tmp/want /tmp/got &&
		[ ! -s /tmp/err ]; then
		ok "$what"
	else
		not_ok "$what" "status $status: $(cat /tmp/err) ids: $(cat /tmp/got)"
	fi
}

if [ -e "$model" ]; then
	golden 'the golden text'
	golden 'the golden text, the KV cache in f32' --kv f32
	golden 'the golden text, as a member of render' -u member
	golden 'the golden text, prompts of 3 rows' --batch 3
else
	skip 'the golden text' 'no model aidreams260k in the shared folder'
fi
as_on_cpu 'many rows, weights of F32' /data/chat.gguf --tokens "$(seq -s ' ' 3 53)"
said=$(unpu run -d accel:0 /data/chat.gguf -p x -n 4 --kv int8 2>&1)
same 'a KV cache of int8 is refused: exit status' 1 $?
same 'in one line' 1 "$(echo "$said" | grep -c '^unpu: ')"
contains 'which says what is' 'f16' "$said"

printf 'hi\nbye\n' | unpu chat -d accel:0 /data/chat.gguf -n 4 --temp 0 >/tmp/out 2>/tmp/err
same 'chat: exit status' 0 $?
printf 'hi\nbye\n' | unpu chat -d cpu /data/chat.gguf -n 4 --temp 0 >/tmp/want 2>/dev/null
check 'chat: the answers are those of the cpu' cmp /tmp/want /tmp/out

# ---- two at a time ----

# $1: a number. In the background: its text and its status are files.
client() {
	unpu run -d accel:0 "${model}" -p "$prompt" -n 64 --temp 0 \
		>"/tmp/out.$1" 2>"/tmp/err.$1" </dev/null
	echo $? >"/tmp/status.$1"
}

if [ -e "$model" ]; then
	client 1 &
	client 2 &
	wait
	for n in 1 2; do
		same "client $n of two: exit status" 0 "$(cat /tmp/status.$n)"
		check "client $n of two: the golden text" cmp "/tmp/out.$n" /data/golden.txt
		sed "s/^/# client $n: /" "/tmp/err.$n"
	done
fi
check 'nothing of it is left' within 10 host gpu idle

# ---- the same from below ----

gpu_program jobs
gpu_program objects
gpu_done
finish
