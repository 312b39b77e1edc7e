# SPDX-License-Identifier: MIT
# Shared by the cases in the guest, and by its shell. A case prints KTAP: what it found, and at its
# end, by `finish`, how many results there are.
# shellcheck shell=sh

slot=0000:00:05.0	# the device of unpu-vdev
bus_device=/sys/bus/pci/devices/$slot
driver=/sys/bus/pci/drivers/unpu
model=/data/aidreams260k.gguf
prompt='I dream of'
results=0

ok() { # $1: what holds
	results=$((results + 1))
	echo "ok $results $1"
}

not_ok() { # $1: what must hold, $2: what was found
	[ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 8 | sed 's/^/# /'
	results=$((results + 1))
	echo "not ok $results $1"
}

skip() { # $1: what is not tested, $2: why
	results=$((results + 1))
	echo "ok $results $1 # SKIP $2"
}

finish() {
	echo "1..$results"
	exit 0
}

# $1: what must hold, the rest: a command that must succeed, or says why it does not.
check() {
	what=$1
	shift
	if said=$("$@" 2>&1); then
		ok "$what"
	else
		not_ok "$what" "status $?: $said"
	fi
}

# $1: what must hold, the rest: a command that must fail.
refused() {
	what=$1
	shift
	if said=$("$@" 2>&1); then
		not_ok "$what" "it succeeded: $said"
	else
		ok "$what"
	fi
}

# $1: what must hold, $2: what is wanted, $3: what there is.
same() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "wanted '$2', got '$3'"
	fi
}

# $1: what must hold, $2: a text, $3: what contains it.
contains() {
	case $3 in
	*"$2"*) ok "$1" ;;
	*) not_ok "$1" "no '$2' in: $3" ;;
	esac
}

# $1: seconds of a machine in good health, the rest: a command that succeeds within them.
within() {
	tries=$(($1 * 10 * ${UNPU_SLOW:-1}))
	shift
	while [ $tries -gt 0 ]; do
		"$@" >/dev/null 2>&1 && return 0
		tries=$((tries - 1))
		usleep 100000
	done
	"$@"
}

# ---- the kernel's log ----

mark() { # what `since` prints begins here
	marked="unpu-vm: mark $$ $(cut -d ' ' -f 1 /proc/uptime)"
	echo "$marked" >/dev/kmsg
}

since() {
	dmesg | awk -v mark="$marked" 'found { print } index($0, mark) { found = 1 }'
}

said() { # $1: a regular expression
	since | grep -E "$1"
}

# ---- the driver ----

# The nodes get the owner and mode of the udev rule that the driver comes with.
nodes() {
	group=$(sed -n 's/^SUBSYSTEM=="accel".*GROUP="\([^"]*\)".*/\1/p' /etc/unpu.rules)
	mode=$(sed -n 's/^SUBSYSTEM=="accel".*MODE="\([^"]*\)".*/\1/p' /etc/unpu.rules)
	for node in /dev/accel/accel* /dev/dri/render*; do
		[ ! -e "$node" ] || { chgrp "$group" "$node" && chmod "$mode" "$node"; } || return
	done
}

# The character device that the bus device has, or nothing.
node() {
	for entry in "$bus_device"/accel/accel* "$bus_device"/drm/render*; do
		[ -e "$entry" ] || continue
		sed -n 's/^DEVNAME=/\/dev\//p' "$entry/uevent"
		return
	done
	return 1
}

has_node() { [ -c "$(node)" ] && nodes; }

load() { # $1: a file in /lib/modules, the rest: its parameters
	file=$1
	shift
	insmod "/lib/modules/$file" "$@"
}

unbind() { echo "$slot" >"$driver/unbind"; }

bind() { echo "$slot" >"$driver/bind" && nodes; }

# Driver loaded, device bound: what every case begins with, whatever the one before it left.
ready() {
	[ ! -e /sys/devices/platform/unpu_mock.0 ] || within 2 rmmod unpu || return
	[ -e /sys/module/unpu ] || load unpu.ko || return
	[ -e "$driver/$slot" ] || bind || return
	within 10 has_node
}

# The same with the mock, which stands in for a device in the kernel itself.
mock_ready() {
	bus_device=/sys/devices/platform/unpu_mock.0
	[ -c "$(node)" ] && return
	[ ! -e /sys/module/unpu ] || within 2 rmmod unpu || return
	load unpu.ko mock=1 && within 10 has_node
}

# ---- a GPU behind the device ----

# What the case is about is not everywhere.
gpu_or_skip() {
	slot=0000:00:09.0
	bus_device=/sys/bus/pci/devices/$slot
	[ ! -e $bus_device ] || return 0
	echo '1..0 # SKIP no lavapipe on the host (mesa-vulkan-drivers)'
	exit 0
}

# Driver loaded and that device alone bound, so that accel:0 is it; worker and driver may take a
# while to begin.
gpu_ready() {
	[ ! -e /sys/devices/platform/unpu_mock.0 ] || within 2 rmmod unpu || return
	[ -e /sys/module/unpu ] || load unpu.ko || return
	[ ! -e $driver/0000:00:05.0 ] || echo 0000:00:05.0 >$driver/unbind || return
	echo unpu >$bus_device/driver_override
	[ -e "$driver/$slot" ] || within 30 bind || return
	within 30 has_node
}

# The machine is again as the other cases know it.
gpu_done() {
	unbind
	echo later >$bus_device/driver_override
}

# $1: a program of tests/kselftest, with results of its own, the rest: its options
gpu_program() {
	name=$1
	shift
	if [ -x "/kselftest/$name" ]; then
		UNPU_SUSPEND=1 "/kselftest/$name" "$@" "$(node)"
	else
		skip "kselftest $name on a GPU" 'no sources of the kernel (tools/setup vm)'
	fi
}

# ---- the command ----

# The golden text, written by the command. $1: what must hold, the rest: more for `unpu run`, or
# -u USER first.
golden() {
	what=$1
	shift
	user=root
	[ "${1:-}" != -u ] || { user=$2 && shift 2; }
	rm -rf /tmp/golden
	mkdir -m 777 /tmp/golden
	su -s /bin/sh "$user" -c "unpu run -d accel:0 $model -p '$prompt' -n 64 --temp 0 $* \
		>/tmp/golden/out 2>/tmp/golden/err </dev/null"
	status=$?
	if [ $status = 0 ] && cmp -s /tmp/golden/out /data/golden.txt; then
		ok "$what"
	else
		not_ok "$what" "status $status: $(head -c 300 /tmp/golden/err) text: $(
			head -c 200 /tmp/golden/out)"
	fi
}
