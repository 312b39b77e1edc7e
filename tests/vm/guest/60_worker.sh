#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 180
# The worker of unpu-vdev dies, or stands still, while the command generates.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
if [ ! -e "$model" ]; then
	skip 'a worker that dies' 'no model aidreams260k in the shared folder'
	finish
fi

has_text() { [ "$(wc -c </tmp/out)" -gt ${#prompt} ]; }

# One run with the worker killed after its first text; 0: the command has noticed it in its midst.
killed_run() {
	: >/tmp/out
	unpu run -d auto "$model" -p "$prompt" -n 64 --temp 0 >/tmp/out 2>/tmp/err </dev/null &
	run=$!
	while ! has_text && kill -0 $run 2>/dev/null; do usleep 1000; done
	host vdev kill-worker >/dev/null
	wait $run
	status=$?
	grep -q '^unpu: ' /tmp/err
}

# With the model of a quarter of a million parameters a text takes the device a few ms.
host vdev slow
tries=0
until killed_run || [ $tries = 15 ]; do
	tries=$((tries + 1))
done
host vdev normal
same 'the command outlives the worker' 0 $status
same 'with one warning' 1 "$(grep -c '^unpu: ' /tmp/err)"
check 'the text is the golden one' cmp /tmp/out /data/golden.txt
golden 'a new worker serves new contexts'
check 'the log of unpu-vdev names a killed worker' host vdev said 'worker.*Killed'

# A heartbeat that is missed proves nothing: who waits goes on where the worker goes on.
host vdev pause
unpu run -d accel:0 "$model" -p "$prompt" -n 64 --temp 0 >/tmp/out 2>/tmp/err </dev/null &
run=$!
usleep 1500000
host vdev continue
wait $run
same 'a worker that stood still for 1.5 s: the command goes on' 0 $?
check 'and writes the golden text' cmp /tmp/out /data/golden.txt
golden 'the golden text after it'
finish
