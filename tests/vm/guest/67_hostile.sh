#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 240
# A device process that says what cannot be: runs may fail, but end, and then all is well again.
# What the kernel has to say of it is looked at by tests/vm/run.
# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
if [ ! -e "$model" ]; then
	skip 'a hostile device process' 'no model aidreams260k in the shared folder'
	finish
fi

# $1: seconds. Runs until then; 1: one did not end.
runs() {
	end=$(($(date +%s) + $1))
	while [ "$(date +%s)" -lt "$end" ]; do
		timeout -s KILL 40 unpu run -d accel:0 "$model" -p x -n 8 --temp 0 \
			>/tmp/out 2>&1 </dev/null
		[ $? != 137 ] || return 1
	done
}

# $1: at most so many lines of the driver since the mark, $2: with these words
few() {
	[ "$(said "unpu $slot.*$2" | wc -l)" -le "$1" ]
}

# A new worker takes a moment.
works() {
	unpu run -d accel:0 "$model" -p x -n 8 --temp 0 >/tmp/out 2>&1 </dev/null
}

for mode in event index state all storm; do
	mark
	if ! said=$(host vdev scribble "$mode" 3); then
		skip "hostile: $mode" "$said"
		continue
	fi
	check "hostile: $mode: every run ends" runs 5
	check "hostile: $mode: the kernel says little" few 100 ''
	# What was written over stays so until there is another process.
	mark
	host vdev kill-worker >/dev/null
	check "hostile: $mode: the device works after it" within 10 works
	check "hostile: $mode: attached once" few 1 'device works again'
	golden "hostile: $mode: the golden text after it"
done
finish
