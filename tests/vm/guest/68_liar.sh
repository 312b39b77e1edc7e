#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 400
# A second device, whose process lies (tests/vm/liar); tests/kselftest/liar.c is told which, and
# tells it what to say: host liar WORDS. It has no device after this.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

ready >/tmp/said 2>&1 || { sed 's/^/# /' /tmp/said; not_ok 'the device'; finish; }
# A minute is for devices that compile; the program counts on these.
echo 20000 >/sys/module/unpu/parameters/verdict_ms
exec /kselftest/liar 0000:00:08.0
