#!/bin/sh
# SPDX-License-Identifier: MIT
# The module loads, binds the device that is ours, and says one line about each of the others.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

mark
check 'the module loads' load unpu.ko
check 'the device has a node within 10 s' within 10 has_node
check "$slot is bound" [ -e "$driver/$slot" ]
contains 'a line names the driver' 'unpu' "$(said "$slot")"
same 'it complains of nothing' '' "$(said "unpu $slot" | grep -iE 'warn|fail|error|cannot')"

empty=$(said '0000:00:06.0')
check 'an empty window is not bound' [ ! -e "$driver/0000:00:06.0" ]
same 'an empty window: one line' 1 "$(echo "$empty" | grep -c .)"
refused 'an empty window: no such device' sh -c "echo 0000:00:06.0 >$driver/bind"

# The kernel adds a line of its own to every errno but ENODEV.
version=$(said '0000:00:07.0' | grep -v 'probe with driver')
check 'another protocol is not bound' [ ! -e "$driver/0000:00:07.0" ]
same 'another protocol: one line' 1 "$(echo "$version" | grep -c .)"
contains 'another protocol: its version' 77 "$version"
contains 'another protocol: our version' ' 2' "${version#*0000:00:07.0}"

small=$(said '0000:00:10.0')
check 'a small window is not bound' [ ! -e "$driver/0000:00:10.0" ]
same 'a small window: one line' 1 "$(echo "$small" | grep -c .)"
contains 'a small window: how much there must be' 'at least' "$small"
deaf=$(said '0000:00:11.0' | grep -v 'probe with driver')
check 'a device without an interrupt is not bound' [ ! -e "$driver/0000:00:11.0" ]
same 'a device without an interrupt: one line' 1 "$(echo "$deaf" | grep -c .)"
contains 'a device without an interrupt: what it lacks' MSI-X "$deaf"

same 'the node is of group render' 'render 660' "$(stat -c '%G %a' "$(node)")"
finish
