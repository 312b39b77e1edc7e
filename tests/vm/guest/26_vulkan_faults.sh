#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 360
# A GPU behind the device that is lost, computes wrong numbers, has no memory left or hangs, and
# programs that hang on it: the guest hears of it, its texts go on, and the device serves again.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

gpu_or_skip
check 'the device is there' gpu_ready

# ---- in the midst of a text ----

# Prints what there is of a text until the command has written some more than its prompt.
has_text() { [ "$(wc -c </tmp/out)" -gt ${#prompt} ]; }

# One run in which a submit fails with $1 after the first text; 0: it has noticed.
faulty_run() {
	: >/tmp/out
	unpu run -d accel:0 "$model" -p "$prompt" -n 64 --temp 0 >/tmp/out 2>/tmp/err </dev/null &
	run=$!
	while ! has_text && kill -0 $run 2>/dev/null; do usleep 1000; done
	host gpu fault "$1" >/dev/null
	wait $run
	status=$?
	grep -q '^unpu: ' /tmp/err
}

# $1: the fault, $2: what the log of unpu-vdev says of it
fault_in_a_text() {
	mark
	tries=0
	# A text that was over before it fails the next one's first submit, which is as good.
	until faulty_run "$1" || [ $tries = 5 ]; do
		tries=$((tries + 1))
	done
	same "$1: the command ends well" 0 $status
	same "$1: with one warning" 1 "$(grep -c '^unpu: ' /tmp/err)"
	contains "$1: which says where it goes on" 'going on on cpu' "$(cat /tmp/err)"
	check "$1: the text is the golden one" cmp /tmp/out /data/golden.txt
	check "$1: the log of unpu-vdev says so" host gpu said "$2"
	golden "$1: the device serves again"
	same "$1: no warning of the kernel" '' "$(said 'WARNING|BUG|cut here')"
}

if [ -e "$model" ]; then
	fault_in_a_text lost 'worker (replaced|gone) .its engine was lost'
	fault_in_a_text corrupt 'computes wrong numbers'
	fault_in_a_text oom 'out of memory|no memory|MEMORY'
	if [ -n "${UNPU_TEST_LONG:-}" ]; then
		fault_in_a_text hang 'hangs: no end after'
	fi
else
	skip 'faults in a text' 'no model aidreams260k in the shared folder'
fi
check 'nothing of it is left' within 10 host gpu idle

# ---- from below: HANG, STUK, EXIT, SLOW ----

# A GPU takes several repeats at once: one that is SLOW makes all of them 20 ms longer, not each.
gpu_program hang -T slow_is_not_hung
[ -z "${UNPU_TEST_LONG:-}" ] || gpu_program counters
check 'the device is there after it' gpu_ready
golden 'the golden text after it'
gpu_done
finish
