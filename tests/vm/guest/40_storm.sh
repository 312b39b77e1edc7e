#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 240
# Whole programs of tests/kselftest under a thousand signals a second, in the processes that call
# the device: what they find is what they find without. Restarted by the kernel, and interrupted.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
export UNPU_STORM

# $1: how, $2: a program. Its results are this case's.
storm() {
	UNPU_STORM=$1
	"/kselftest/$2" "$(node)" >/tmp/said
	sed "s/^\(not ok\|ok\) \([0-9]*\)/& under signals ($1):/" /tmp/said
	signals=$(sed -n 's/^# storm: \([0-9]*\) signals$/\1/p' /tmp/said)
	check "$2: there were signals" test "${signals:-0}" -gt 20
}

UNPU_ROWS=tenth
[ -z "${UNPU_TEST_LONG:-}" ] || UNPU_ROWS=all
export UNPU_ROWS
for how in restart interrupt; do
	for program in objects jobs errno errno32; do
		[ ! -x "/kselftest/$program" ] || storm $how $program
	done
done
finish
