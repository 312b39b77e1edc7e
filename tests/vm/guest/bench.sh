#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 3600
# For tests/bench/vm.sh: measures each model of the disk, in turn with the host. /etc/bench holds
# the rounds and the words for `unpu bench`.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

read -r rounds words </etc/bench
ready || exit
mount -t ext4 -o ro /dev/vda /mnt || exit
round=1
while [ "$round" -le "$rounds" ]; do
	for file in /mnt/*.gguf; do
		host bench "${file##*/}" >/dev/null || exit
		# shellcheck disable=SC2086 # words
		json=$(unpu bench "$file" -d accel:0 --json $words 2>/tmp/err </dev/null)
		[ ! -s /tmp/err ] || sed 's/^/# /' /tmp/err
		[ -n "$json" ] || exit
		echo "@result guest ${file##*/} $(echo "$json" | tr -d '\n')"
	done
	round=$((round + 1))
done
sed 's/^/# /' /proc/interrupts | grep unpu
