# SPDX-License-Identifier: MIT
# For tests/vm/run: a slot of the machine in which a device of unpu-vdev comes and goes, by QEMU's
# QMP. What the guest asks for: `host slot plug`, `unplug`, which it must agree to itself, and
# `alone`, whether its case is the only one. QEMU 7.2 forgets that it listens to the doorbells of an
# ivshmem device when that goes, and dies of it now and then: no other case shall go with it.
# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is used by who includes it

slot_device=() slot_number=0

# The bus behind the port gets its window at boot, for a device that is not there yet.
make_slot() {
	grep -qs 'host slot' "$work/root/data/cases/"*.sh || return 0
	mkfifo "$work/qmp.in" "$work/qmp.out" || return
	exec {to_qmp}<>"$work/qmp.in" {from_qmp}<>"$work/qmp.out"
	# shellcheck disable=SC2054 # commas of QEMU's
	slot_device=(-device
		'pcie-root-port,id=behind,addr=0x12,chassis=1,slot=1,mem-reserve=4M,pref64-reserve=256M'
		-chardev "pipe,id=qmp,path=$work/qmp" -mon chardev=qmp,mode=control)
}

qmp_hear() { # $1: what ends it; else the line that is an error, or nothing within 10 s
	local line end=$((SECONDS + 10))
	while [ $SECONDS -lt $end ]; do
		read -r -t 10 -u "$from_qmp" line || break
		case $line in
		*"$1"*) return ;;
		*'"error": {'*) break ;;
		esac
		line=
	done
	echo "${line:-QEMU says nothing of $1}"
	return 1
}

qmp() { # $1: a command, $2: its arguments, as JSON
	printf '{"execute": "%s", "arguments": {%s}}\n' "$1" "${2:-}" >&"$to_qmp"
	qmp_hear '"return"'
}

slot_plug() {
	local id=slot$((slot_number + 1)) address
	[ $slot_number != 0 ] || qmp qmp_capabilities || return
	slot_number=$((slot_number + 1))
	address="{\"type\": \"unix\", \"data\": {\"path\": \"$work/vdev.sock\"}}"
	qmp chardev-add "\"id\": \"$id\", \"backend\": {\"type\": \"socket\",
		\"data\": {\"addr\": $address, \"server\": false}}" &&
		qmp device_add "\"driver\": \"ivshmem-doorbell\", \"id\": \"$id\", \"bus\": \"behind\",
			\"chardev\": \"$id\", \"vectors\": 2"
}

slot_unplug() {
	local id=slot$slot_number
	qmp device_del "\"id\": \"$id\"" && qmp_hear DEVICE_DELETED &&
		qmp chardev-remove "\"id\": \"$id\""
}

host_slot() { # $1: what to do
	case $1 in
	plug) slot_plug ;;
	unplug) slot_unplug ;;
	alone) [ ${#cases[@]} = 1 ] ;;
	*)
		echo "no such word: $1"
		return 1
		;;
	esac
}
