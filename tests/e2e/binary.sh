#!/bin/bash
# SPDX-License-Identifier: MIT
# What the command is made of.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

# UNPU may be a script that calls an emulator.
program=${unpu[-1]}
[ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || program=${UNPU_BUILD:-$root/build}/unpu
if [ "${UNPU_SANITIZED:-}" ]; then
	skip 'what the command is made of' 'a sanitizer is in it'
	finish
fi
# The limit is for a command without default model and SPIR-V, which grows with each shader.
spirv=$(size "${UNPU_BUILD:-$root/build}/shaders/spirv.o" 2>/dev/null | awk 'NR == 2 { print $4 }')
for strip in strip aarch64-linux-gnu-strip arm-linux-gnueabihf-strip; do
	[ -e "$work/stripped" ] || $strip -o "$work/stripped" "$program" 2>/dev/null
done
if [ -e "$work/stripped" ]; then
	check 'below 1.5 MB stripped' \
		[ "$(($(stat -c %s "$work/stripped") - ${spirv:-0}))" -lt 1500000 ]
	check 'SPIR-V below 700 KB' [ "${spirv:-0}" -lt 700000 ]
else
	skip 'below 1.5 MB stripped' 'no strip for this machine'
fi
same 'needs libc only' '' "$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
	grep -vE '^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux.*)$')"
same 'has no path built in' '' "$(readelf -d "$program" | grep -E 'RPATH|RUNPATH')"
check 'has no stack that runs code' eval 'readelf -lW "$program" | grep -qE "GNU_STACK.* RW "'
finish
