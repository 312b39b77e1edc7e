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

has_text() { [ "$(wc -c </tmp/out)" -gt ${#prompt} ]; }

# It is the killer that runs in the background: programs there ignore SIGINT.
interrupted_run() {
	: >/tmp/out
	{ while ! has_text; do usleep 1000; done; kill -INT "$(pidof unpu)"; } 2>/dev/null &
	killer=$!
	status=0
	unpu run -d accel:0 "$model" -p "$prompt" -n 120 --temp 0 >/tmp/out 2>/tmp/err \
		</dev/null || status=$?
	wait $killer
	[ $status = 130 ]
}

host vdev slow
tries=1
until interrupted_run || [ $tries = 15 ]; do
	tries=$((tries + 1))
done
host vdev normal
same 'an interrupt ends the text' 130 $status
same 'and says nothing' '' "$(cat /tmp/err)"
same 'what is there of it is right' "$(head -c 20 /data/golden.txt)" "$(head -c 20 /tmp/out)"
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
check 'within 15 s' test $took -lt $((15 * ${UNPU_SLOW:-1}))
golden 'the golden text when it goes on'
finish
