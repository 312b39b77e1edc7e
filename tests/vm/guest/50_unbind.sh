#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 180
# The device goes while the command uses it, and comes back; the module goes and comes back. A text
# that was begun on the device is finished on the cpu, which is slow here, with a line.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
mark

# Until it fails: the device goes at another place of it each time.
busy() {
	while unpu run -d accel:0 "$model" -p "$prompt" -n 16 --temp 0 </dev/null; do :; done
	: >/tmp/done
}

for pause in 100000 350000 700000; do
	rm -f /tmp/done
	busy >/tmp/out 2>/tmp/err &
	usleep $((1000000 + pause))
	check "unbind while the command runs, after $pause us" unbind
	check 'the command ends' within 40 [ -e /tmp/done ]
	wait
	same 'it says nothing but one or two lines' "$(grep -c . /tmp/err)" \
		"$(grep -c '^unpu: ' /tmp/err | grep -x '[12]')"
	check 'no node is left' [ ! -e /dev/accel/accel0 ]
	check 'bind again' bind
	golden 'the golden text after it'
done

exec 4<>"$(node)"
refused 'rmmod with an open node' rmmod unpu
check 'unbind with an open node' unbind
refused 'rmmod with an open node of an unbound device' rmmod unpu
exec 4>&-
check 'rmmod after it was closed' within 2 rmmod unpu
check 'the module loads again' ready
golden 'the golden text with the module loaded again'
check 'rmmod with the device bound' within 2 rmmod unpu
check 'no node is left' [ ! -e /dev/accel/accel0 ]
check 'the module loads once more' ready
same 'the kernel has nothing to say of it' '' "$(said "unpu $slot" | grep -E 'fail|rror')"
finish
