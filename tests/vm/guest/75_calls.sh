#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 420
# Random calls (tests/kselftest/calls.c), on both devices. What tests/vm/run puts there, of its
# environment: /data/calls, the words of UNPU_CALLS, first vdev or mock if it shall be one alone,
# then options; /data/calls.log, the kernel's log UNPU_CALLS_LOG, of which the last sequence is done
# again.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

if [ ! -x /kselftest/calls ]; then
	skip 'random calls' 'no sources of the kernel (tools/setup vm)'
	finish
fi
words=$(cat /data/calls 2>/dev/null)
only=
case $words in
vdev* | mock*) only=${words%% *} && words=${words#"$only"} ;;
esac
[ ! -e /data/calls.log ] || words="--replay /data/calls.log $words"

# On a debug kernel everything takes longer, and there is more to be found.
seconds=10
[ "${UNPU_SLOW:-1}" = 1 ] || seconds=30
[ -z "${UNPU_TEST_LONG:-}" ] || seconds=$((seconds * 10))
[ -z "${UNPU_TEST_LONG:-}" ] || [ "${UNPU_SLOW:-1}" = 1 ] || seconds=900
export UNPU_CALLS_SECONDS=$seconds

# $1: vdev or mock, $2: what makes it ready
calls() {
	[ -z "$only" ] || [ "$only" = "$1" ] || return
	if ! said=$($2 2>&1); then
		not_ok "the device is there: $1" "$said"
		return
	fi
	$2
	# shellcheck disable=SC2086 # words
	/kselftest/calls $words "$(node)"
}

calls vdev ready
calls mock mock_ready
[ $results = 0 ] || finish
