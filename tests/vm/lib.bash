# SPDX-License-Identifier: MIT
# Shared by tests/vm/run and tests/bench/vm.sh: a kernel, an initramfs, a device process and QEMU.
# Environment: UNPU_BUILD, the build folder; UNPU_SHARED, the folder with models that a clone does
# not have; UNPU_VM_KERNEL, debug or kcsan: not Debian's kernel but one that tests/vm/kernels/build
# makes; UNPU_VM_ARCH, arm64: a machine of that kind, see arm64.bash. What goes wrong is said on
# stderr, with status 1; what is not there, with status 2.
# shellcheck shell=bash disable=SC2034 # what is set here is used by who includes it
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${UNPU_BUILD:-$root/build}
shared=${UNPU_SHARED:-$root/../shared}
work=$(mktemp -d) || exit 1
limit=600
flavour=${UNPU_VM_KERNEL:-}
# How many times longer everything takes than on Debian's kernel; what the module is built with.
slowness=1 driver_options=()
# What runs in the guest: where it was built, and by which tools.
guest_build=$build cross='' cross32=i686-linux-gnu- busybox=$(command -v busybox)
vdev_pid='' gpu_pid='' liar_pid='' qemu_pid='' slow_pid=''
trap 'end_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() { echo "unpu-vm: $*" >&2; }

# The same for one of ours.
own_kernel() {
	local dir
	dir=$("$here/kernels/build" "$flavour") || return
	kernel=$dir/arch/x86/boot/bzImage headers=$dir modules_root=$dir/root
	release=$(cat "$dir/include/config/kernel.release")
	slowness=6 memory=2048
	cmdline=${cmdline/slub_debug=FZPU/} # their own checks see more
	# Emulated, the driver does not run often enough for one access in 4000 to meet another.
	[ "$flavour" != kcsan ] || cmdline="$cmdline kcsan.skip_watch=400"
	[ "$flavour" = debug ] || return 0
	driver_options=(GCOV_PROFILE=y KCOV_INSTRUMENT=y)
	cmdline="$cmdline kasan_multi_shot"
}

# Sets kernel, release, modules_root and headers: the newest that is installed or unpacked.
find_kernel() {
	local image top name best=''
	case $flavour in
	'') ;;
	arm64)
		arm64_kernel
		return
		;;
	*)
		own_kernel
		return
		;;
	esac
	for image in /boot/vmlinuz-6.12.*-amd64 "$root"/build/vm/kernel/boot/vmlinuz-6.12.*-amd64; do
		name=${image##*/vmlinuz-} top=${image%/boot/*}
		if [ -r "$image" ] && [ -e "$top/lib/modules/$name/modules.dep" ] &&
			[ -e "$top/usr/src/linux-headers-$name/Makefile" ] &&
			[ "$(printf '%s\n' "$best" "$name" | sort -V | tail -n 1)" = "$name" ]; then
			best=$name kernel=$image release=$name modules_root=${top:-/}
			headers=$top/usr/src/linux-headers-$name
		fi
	done
	[ -n "$best" ] && return
	say 'no kernel 6.12 with its headers (tools/setup vm)'
	return 2
}

# What this machine must have; names the first that it has not.
have_tools() {
	local tool
	if [ "$(uname -m)" != x86_64 ]; then
		say 'the virtual machines are x86_64 ones'
		return 2
	fi
	for tool in "$emulator" busybox cpio modprobe xz; do
		command -v $tool >/dev/null || [ -x "/sbin/$tool" ] && continue
		say "no $tool (tools/setup vm)"
		return 2
	done
	if file -L "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically linked'; then
		say 'busybox is not a static one (package busybox-static)'
		return 2
	fi
	find_kernel
}

# ---- the initramfs, in $work/root ----

# Begins one: busybox, the guest's own scripts, and who lives there.
root_begin() {
	rm -rf "$work/root"
	mkdir -p "$work/root"/{bin,dev,etc,proc,sys,tmp,data,lib/modules,mnt,run,root,home} || return
	cp "$busybox" "$work/root/bin/busybox" || return
	ln -s busybox "$work/root/bin/sh"
	ln -s bin "$work/root/sbin"
	install -m 755 "$here/init" "$work/root/init"
	cp "$here/guest/lib.sh" "$work/root/etc/"
	install -m 755 "$here/guest/host" "$work/root/bin/host"
	# member may use the device as the udev rule says, stranger may not.
	cat >"$work/root/etc/passwd" <<-END
		root:x:0:0:root:/root:/bin/sh
		member:x:1000:1000:member:/tmp:/bin/sh
		stranger:x:1001:1001:stranger:/tmp:/bin/sh
	END
	cat >"$work/root/etc/group" <<-END
		root:x:0:
		render:x:105:member
		member:x:1000:
		stranger:x:1001:
	END
	: >"$work/root/lib/modules/order"
}

libraries() { # $1: a program
	if [ -n "$cross" ]; then
		arm64_libraries "$1"
	else
		ldd "$1" 2>/dev/null | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }'
	fi
}

# Programs with the libraries they ask for, without debug information.
root_programs() {
	local program library
	for program; do
		"${cross}strip" -o "$work/root/bin/${program##*/}" "$program" 2>/dev/null ||
			cp "$program" "$work/root/bin/" || return
		while read -r library; do
			[ -e "$work/root${library#"$lib_root"}" ] ||
				install -D "$library" "$work/root${library#"$lib_root"}" || return
		done < <(libraries "$program")
	done
}

# Modules of the kernel by name, with what they need, in the order to load them.
root_modules() {
	local name word path
	for name; do
		while read -r word path; do
			[ "$word" = insmod ] || continue
			path=${path% } name=${path##*/}
			name=${name%%.ko*}
			grep -qx "$name" "$work/root/lib/modules/order" && continue
			case $path in
			*.xz) xz -dc "$path" >"$work/root/lib/modules/$name.ko" ;;
			*) cp "$path" "$work/root/lib/modules/$name.ko" ;;
			esac || return
			echo "$name" >>"$work/root/lib/modules/order"
		done < <(PATH=$PATH:/sbin modprobe -d "$modules_root" -S "$release" --show-depends \
			"$name" 2>/dev/null)
	done
}

# A module of ours and what it asks for: $1: the file, $2: its name in the guest.
root_driver() {
	local needs
	"${cross}strip" --strip-debug -o "$work/root/lib/modules/$2" "$1" || return
	needs=$(PATH=$PATH:/sbin modinfo -F depends "$1" | tr ',' ' ')
	# shellcheck disable=SC2086 # names
	root_modules $needs
}

root_end() { # Makes $work/initrd. The kernel unpacks what is not packed the fastest.
	(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
}

# ---- the device process ----

# $1: the program, $2: its socket, $3: its log, the rest: its options.
vdev_start() {
	local i program=$1 socket=$2 log=$3
	shift 3
	rm -f "$socket"
	"$program" "$@" "$socket" >>"$log" 2>&1 &
	vdev_pid=$!
	# The driver of a GPU is tried before; on a busy machine that takes a while.
	for ((i = 0; i < 600; i++)); do
		[ -S "$socket" ] && return
		kill -0 $vdev_pid 2>/dev/null || break
		sleep 0.1
	done
	say "unpu-vdev does not serve: $(tail -n 1 "$log")"
	return 1
}

# $1: tests/vm/liar, $2: its socket, $3: its log. It takes lines from $to_liar, and answers.
liar_start() {
	local i
	mkfifo "$work/liar.in" "$work/liar.out" || return
	exec {to_liar}<>"$work/liar.in" {from_liar}<>"$work/liar.out"
	"$1" "$2" <"$work/liar.in" >"$work/liar.out" 2>>"$3" &
	liar_pid=$!
	for ((i = 0; i < 100; i++)); do
		[ -S "$2" ] && return
		kill -0 $liar_pid 2>/dev/null || break
		sleep 0.1
	done
	say "the liar does not serve: $(tail -n 1 "$3")"
	return 1
}

# The broker forks a nursery, and that the workers.
vdev_workers() {
	local nursery
	nursery=$(pgrep -d , -P "$vdev_pid") && pgrep -P "$nursery"
}

# shellcheck disable=SC2046 # numbers
vdev_signal() { kill "-$1" $(vdev_workers); }

# The worker runs a tenth of the time: texts of small models take so long that something can happen
# in their midst.
vdev_slow() {
	vdev_normal
	while :; do
		vdev_signal STOP
		sleep 0.045
		vdev_signal CONT
		sleep 0.005
	done 2>/dev/null &
	slow_pid=$!
}

vdev_normal() {
	[ -n "$slow_pid" ] || return 0
	kill "$slow_pid" && wait "$slow_pid"
	slow_pid=
	vdev_signal CONT
} 2>/dev/null

# $1: a signal for the broker alone; 1: some of the others were still there 5 s later.
vdev_end() {
	local others pid='' tries=50
	vdev_normal
	[ -n "$vdev_pid" ] || return 0
	others="$(pgrep -P "$vdev_pid") $(vdev_workers)"
	{ kill "-$1" "$vdev_pid" && wait "$vdev_pid"; } 2>/dev/null
	vdev_pid=
	while :; do
		for pid in $others; do
			# Whoever is left may be nobody's to reap.
			grep -qs '^State:[[:space:]]*[^Z]' "/proc/$pid/status" && break
			pid=
		done
		[ -n "$pid" ] || return 0
		[ $((tries--)) -gt 0 ] || break
		sleep 0.1
	done
	say 'unpu-vdev is gone, its workers are not'
	# shellcheck disable=SC2086 # numbers
	kill -KILL $others 2>/dev/null
	return 1
}

end_all() {
	[ -z "$qemu_pid" ] || { kill -KILL "$qemu_pid" && wait "$qemu_pid"; } 2>/dev/null
	qemu_pid=
	[ -z "$liar_pid" ] || { kill -KILL "$liar_pid" && wait "$liar_pid"; } 2>/dev/null
	liar_pid=
	vdev_end TERM
	[ -n "$gpu_pid" ] || return 0
	vdev_pid=$gpu_pid gpu_pid=
	vdev_end TERM
}

# ---- the machine ----

memory=1024
# Slabs are poisoned and checked, an oops ends the machine, and an emulated processor that was not
# given time for a while has not locked up.
cmdline='slub_debug=FZPU panic=-1 oops=panic watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120
	workqueue.watchdog_thresh=120
	hung_task_timeout_secs=100 no_console_suspend console=ttyS0 loglevel=7 printk.devkmsg=on
	suspend.pm_test_delay=1'
emulator=qemu-system-x86_64 machine=(-machine q35 -cpu "${UNPU_VM_CPU:-max}")
# The second serial line, which is the guest's ttyS1.
second_line=(-serial chardev:words) lib_root=

# $1: words for the kernel, the rest: more for QEMU. Sets $qemu: the command.
qemu_command() {
	local words="${cmdline//$'\n\t'/ } unpu.slow=$slowness unpu.long=${UNPU_TEST_LONG:-} $1"
	shift
	qemu=("$emulator" -nodefaults -no-reboot -display none "${machine[@]}"
		-accel "${UNPU_VM_ACCEL:-tcg}" -smp 2 -m "$memory"
		-kernel "$kernel" -initrd "$work/initrd" -append "$words" "$@")
}

# The unpu device itself, at a place that the guest's scripts know. $1: its socket
qemu_unpu() {
	unpu_device=(-chardev "socket,id=unpu,path=$1"
		-device 'ivshmem-doorbell,chardev=unpu,vectors=2,addr=5')
}

# Reads the guest's lines for $limit seconds (of Debian's kernel) and gives each to take_line, which
# is 1 after the last. Else sets heard_why.
listen() {
	local line status left begun='' deadline=$((SECONDS + limit * slowness))
	heard_why='the guest did not come to its end'
	while left=$((deadline - SECONDS)) && [ $left -gt 0 ]; do
		IFS= read -r -t $((left < 5 ? left : 5)) -u "$from_guest" line
		status=$?
		begun=$begun${line%$'\r'}
		if [ $status = 0 ]; then
			line=$begun begun=''
			take_line "$line" || return 0
		# Above 128 it was no line yet.
		elif [ $status -le 128 ] || ! kill -0 "$qemu_pid" 2>/dev/null; then
			return 1
		fi
	done
	heard_why="the guest took more than $limit s x $slowness"
	return 1
}

# Boots, runs the cases in the guest and waits for its end. $1: the kernel's log, $2: QEMU's, the
# rest: for QEMU. take_line answers to descriptor $to_guest. Counters of the module come to $1's
# folder, too.
boot_suite() {
	local console=$1 said=$2 status=0
	shift 2
	mkfifo "$work/serial.in" "$work/serial.out" || return
	qemu_command unpu.vm=suite "$@" -serial "file:$console" \
		-chardev "pipe,id=words,path=$work/serial" "${second_line[@]}" \
		-serial "file:${console%/*}/counters"
	"${qemu[@]}" >"$said" 2>&1 &
	qemu_pid=$!
	exec {to_guest}<>"$work/serial.in" {from_guest}<>"$work/serial.out"
	listen || status=1
	# It writes its last lines, and goes.
	if [ $status = 0 ] && ! timeout 60 tail --pid=$qemu_pid -f /dev/null; then
		heard_why='the guest does not power off'
		status=1
	fi
	exec {to_guest}>&- {from_guest}>&-
	rm -f "$work/serial.in" "$work/serial.out"
	return $status
}

# shellcheck source=tests/vm/arm64.bash
[ "${UNPU_VM_ARCH:-}" != arm64 ] || . "$here/arm64.bash"
