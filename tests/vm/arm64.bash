# SPDX-License-Identifier: MIT
# What lib.bash does otherwise with UNPU_VM_ARCH=arm64: Debian's kernel of that machine, which
# tools/setup vm unpacks to build/vm/kernel-arm64, on qemu-system-aarch64 -M virt. That kernel has no
# accel nodes: the driver is a render node there, as under Android. The device process outside is
# this machine's own.
# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is used by who includes it
flavour=arm64
cross=aarch64-linux-gnu- cross32=arm-linux-gnueabihf-
guest_build=$build/aarch64-linux-gnu
driver_options=(ARCH=arm64 "CROSS_COMPILE=$cross")

arm64_top=$root/build/vm/kernel-arm64
lib_root=/usr/aarch64-linux-gnu
busybox=$arm64_top/bin/busybox

emulator=qemu-system-aarch64
machine=(-machine virt -cpu "${UNPU_VM_CPU:-cortex-a72}")
# It has one serial line of its own; the other is a PCI function, and the guest's first of that kind.
second_line=(-device 'pci-serial,chardev=words,addr=0x1e')
cmdline="${cmdline/ttyS0/ttyAMA0} unpu.line=ttyS0"

arm64_kernel() {
	local image
	for image in "$arm64_top"/boot/vmlinuz-6.12.*-arm64; do
		release=${image##*/vmlinuz-}
		kernel=$image modules_root=$arm64_top headers=$arm64_top/usr/src/linux-headers-$release
	done
	if [ ! -r "$kernel" ] || [ ! -e "$headers/Makefile" ] || [ ! -x "$busybox" ]; then
		say 'no kernel 6.12 of arm64 with its headers (tools/setup vm)'
		return 2
	fi
	if ! command -v "${cross}gcc" >/dev/null || [ ! -d "$lib_root/lib" ]; then
		say "no ${cross}gcc with its libc (tools/setup vm)"
		return 2
	fi
}

# $1: a program. What it and its libraries ask for, below $lib_root; the loader is one of them.
arm64_libraries() {
	"${cross}readelf" -d "$1" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
		while read -r name; do
			echo "$lib_root/lib/$name"
			arm64_libraries "$lib_root/lib/$name"
		done | sort -u
	echo "$lib_root/lib/ld-linux-aarch64.so.1"
}
