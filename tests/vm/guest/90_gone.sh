#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 400
# unpu-vdev is killed, for good: QEMU cannot be joined again. Nothing after this has a device.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
exec 4<>"$(node)"
timeout -s KILL 110 unpu run -d auto "$model" -p "$prompt" -n 64 --temp 0 \
	>/tmp/out 2>/tmp/err </dev/null &
run=$!
usleep 300000
check 'unpu-vdev is killed, its workers go with it' host vdev kill
wait $run
same 'the command outlives the device process' 0 $?
check 'and writes the golden text' cmp /tmp/out /data/golden.txt

start=$(date +%s)
timeout -s KILL 110 unpu run -d accel:0 "$model" -p "$prompt" -n 4 \
	>/tmp/out 2>/tmp/err </dev/null
same 'accel:0 is refused' 1 $?
same 'with one line' 1 "$(grep -c '^unpu: ' /tmp/err)"
check 'within 10 s' [ $(($(date +%s) - start)) -le $((10 * ${UNPU_SLOW:-1})) ]
timeout -s KILL 110 unpu run -d auto "$model" -p "$prompt" -n 64 --temp 0 \
	>/tmp/out 2>/tmp/err </dev/null
same 'auto takes the cpu' 0 $?
check 'and writes the golden text' cmp /tmp/out /data/golden.txt
check 'unbind with a node open' unbind
exec 4>&-
check 'rmmod' within 5 rmmod unpu
check 'the module loads without its device' load unpu.ko
refused 'a device without its process is not bound' [ -e "$driver/$slot" ]
check 'rmmod again' within 5 rmmod unpu
finish
