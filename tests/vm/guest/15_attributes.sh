#!/bin/sh
# SPDX-License-Identifier: MIT
# The window is memory like any other to the processor, for the kernel and for who maps a buffer:
# write-back. Firmware may have made it uncached, and then the driver says so, and works. After the
# device went, a mapping has a page of zeros, write-back too. The module pageattr asks the page
# tables, and on arm64 the MMU.
# shellcheck source=tests/vm/guest/lib.sh
. /etc/lib.sh

question=/sys/module/pageattr/parameters/address

# What /proc/vmallocinfo has of the kernel's mapping that begins at $first: its address.
kernel_mapping() {
	awk -v want="phys=$first" '{
		for (i = 1; i <= NF; i++)
			if ($i == want) { sub(/-.*/, "", $1); print $1 }
	}' /proc/vmallocinfo | tail -n 1
}

# $1: the physical address and kind of a kernel address, as the module answers
ask_kernel() { echo "kernel $1" >$question && cat $question; }

in_window() { # $1: a physical address
	[ $(($1)) -ge $((first)) ] && [ $(($1)) -le $((last)) ]
}

# What x86 keeps of the kind of each range; the end is not its last byte.
pat_kind() {
	sed -n "s/^PAT: \[mem $first-.*\] //p" /sys/kernel/debug/x86/pat_memtype_list
}

begin_mapping() {
	rm -f /tmp/next /tmp/kinds
	mkfifo /tmp/next
	/kselftest/attributes "$(node)" <>/tmp/next >/tmp/kinds 2>&1 &
	within 10 grep -qs '^mapped ' /tmp/kinds || { cat /tmp/kinds && return 1; }
}

# All of one device. $1: its name in the results. Below 1 GiB firmware may put it where it pleases.
window() {
	mark
	if [ -e "$driver/$slot" ]; then
		check "$1: unbind" unbind
	fi
	check "$1: bind" bind
	check "$1: a node" within 10 has_node
	read -r first last _ <<-END
		$(sed -n 3p "$bus_device/resource")
	END
	uncached=$(said "unpu $slot.*window of .* MiB is uncached" | grep -c .)
	wanted=wb
	if [ $((last - first + 1)) -lt $((1 << 30)) ] && [ "$uncached" = 1 ]; then
		wanted=uc-
		echo "# $1 is uncached, as firmware wants it; the driver said so"
	else
		same "$1: the driver does not call it uncached" 0 "$uncached"
	fi

	same "$1: what the kernel has mapped" "$first $wanted" \
		"$(ask_kernel "$(kernel_mapping)" 2>&1)"
	check "$1: a buffer is mapped, and a job writes to it" begin_mapping
	read -r _ phys kind byte </tmp/kinds
	same "$1: what a user has mapped" "$wanted 1" "$kind $byte"
	check "$1: and that is in the window" in_window "$phys"
	if [ -e /sys/kernel/debug/x86/pat_memtype_list ]; then
		names='wb=write-back uc-=uncached-minus'
		same "$1: what the list of memory types has" \
			"$(echo "$names" | tr ' ' '\n' | sed -n "s/^$wanted=//p")" "$(pat_kind)"
	fi

	check "$1: unbind with the mapping" unbind
	echo >/tmp/next
	check "$1: the mapping is still there" within 10 grep -qs '^again ' /tmp/kinds
	wait
	read -r _ phys kind byte <<-END
		$(grep '^again ' /tmp/kinds)
	END
	same "$1: it has zeros then, in memory like any other" 'wb 0' "$kind $byte"
	refused "$1: which is not the window's" in_window "$phys"
}

if [ ! -x /kselftest/attributes ]; then
	skip 'page attributes' 'no sources of the kernel (tools/setup vm)'
	finish
fi
check 'the driver is there' ready
check 'the module that asks' load pageattr.ko
echo 1 >/proc/sys/kernel/kptr_restrict # root sees addresses then
window 'the window'
check 'bind again' bind
rmmod pageattr
finish
