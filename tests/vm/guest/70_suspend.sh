#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 120
# Suspend and resume: all devices, without the processors.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
if ! grep -q devices /sys/power/pm_test || ! grep -q freeze /sys/power/state; then
	skip 'suspend' 'a kernel without pm_test'
	finish
fi
echo devices >/sys/power/pm_test

mark
check 'suspend and resume' sh -c 'echo freeze >/sys/power/state'
check 'the device is there after it' within 10 has_node
golden 'the golden text after it'

unpu run -d auto "$model" -p "$prompt" -n 64 --temp 0 >/tmp/out 2>/tmp/err </dev/null &
run=$!
usleep 300000
check 'suspend and resume while the command runs' sh -c 'echo freeze >/sys/power/state'
wait $run
same 'the command outlives it' 0 $?
check 'and writes the golden text' cmp /tmp/out /data/golden.txt
golden 'the golden text after that'
echo none >/sys/power/pm_test
finish
