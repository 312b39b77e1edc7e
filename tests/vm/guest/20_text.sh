#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 180
# The command writes the golden text on the device: as root, as a member of the group render; and
# says to all others which group it is.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
if [ ! -e "$model" ]; then
	skip 'the golden text' 'no model aidreams260k in the shared folder'
	finish
fi
golden 'the golden text'
golden 'the golden text, as a member of render' -u member
said=$(su -s /bin/sh stranger -c "unpu run -d accel:0 $model -p x -n 1" 2>&1)
status=$?
same 'a stranger is refused' 1 $status
same 'a stranger: one line' 1 "$(echo "$said" | grep -c '^unpu: ')"
contains 'a stranger: the group' render "$said"
contains 'devices lists it' accel:0 "$(unpu devices 2>&1)"
finish
