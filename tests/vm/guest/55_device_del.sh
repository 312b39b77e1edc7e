#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 240
# A device behind a port of its own that is removed, that loses its power while the kernel thinks
# that it is there, and, when this case runs alone, that the machine takes out (QMP's device_del).
# What is held meanwhile is tests/kselftest/removal's to know.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

check 'the device is there' ready
first=$(node)
slot=0000:01:00.0
bus_device=/sys/bus/pci/devices/$slot
if ! said=$(host slot plug); then
	not_ok 'a device comes' "$said"
	finish
fi
check 'a device comes, and has a node' within 10 has_node
check 'beside the first' [ -c "$first" ]
echo "1..$results"
if host slot alone >/dev/null; then export UNPU_EJECT=1; fi
UNPU_SLOT=$slot /kselftest/removal "$(node)"
status=$?
echo 1 >"$bus_device/remove"
exit $status
