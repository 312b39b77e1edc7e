#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 90
# The same driver as a render node, for kernels without CONFIG_DRM_ACCEL.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

if [ ! -e /lib/modules/unpu-render.ko ]; then
	skip 'render node' 'the driver was not built as one'
	finish
fi
[ ! -e /sys/module/unpu ] || check 'the other module goes' within 2 rmmod unpu
check 'the module loads' load unpu-render.ko
check 'the device has a node' within 10 has_node
contains 'it is a render node' /dev/dri/renderD "$(node)"
contains 'the command lists it' accel:0 "$(unpu devices 2>&1)"
golden 'the golden text'
golden 'the golden text, as a member of render' -u member
check 'the module goes' within 2 rmmod unpu
finish
