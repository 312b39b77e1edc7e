#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 180
# Ctrl-C while the command generates on the device: the first ends the text where it is, the second
# ends a command whose device does not answer. The device goes on.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
if [ ! -e "$model" ]; then
	skip 'an interrupt' 'no model aidreams260k in the shared folder'
	finish
fi

# A shell's own background programs ignore SIGINT; those of timeout do not.
interrupted_run() { # $1: milliseconds
	status=0
	timeout -s INT "$1" unpu run -d accel:0 "$model" -p "$prompt" -n 100000 --temp 0 \
		>/tmp/out 2>/tmp/err </dev/null || status=$?
	[ $status = 130 ] && [ "$(wc -c </tmp/out)" -gt ${#prompt} ]
}

host vdev slow
tries=1
until interrupted_run $tries || [ $tries = 6 ]; do
	tries=$((tries + 1))
done
host vdev normal
same 'an interrupt ends the text' 130 $status
same 'and says nothing' '' "$(cat /tmp/err)"
golden 'the golden text after it'

# Stopped, the device process answers neither jobs nor the end of a context.
host vdev pause
start=$(cut -d . -f 1 /proc/uptime)
(timeout -s INT 3 timeout -s INT 2 unpu run -d accel:0 "$model" -p "$prompt" -n 64 --temp 0 \
	>/tmp/out 2>/tmp/err </dev/null)
status=$?
took=$(($(cut -d . -f 1 /proc/uptime) - start))
host vdev continue
check 'a device that stands still: the command ends' test $status != 0
check 'within 15 s' test $took -lt 15
golden 'the golden text when it goes on'
finish
