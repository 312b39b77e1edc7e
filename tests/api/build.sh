#!/bin/bash
# SPDX-License-Identifier: MIT
# The same sources make the same bytes in any folder, and the command builds without line editing.
# UNPU_BUILD: the folder of the build that all is compared with.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/../e2e/lib.bash"
build=${UNPU_BUILD:-$root/build}
unset MAKEFLAGS MAKELEVEL

copy_tree() { # $1: where to
	mkdir -p "$1" && cp -R "$root"/{Makefile,runtime,shaders,uapi,tools} "$1"
}

make_in() { # $1: folder of the sources, the rest: for make
	local in=$1
	shift
	(umask 077 && nice make -C "$in" -j2 WERROR=1 "$@" all) >"$work/log" 2>&1 ||
		{ grep -m3 -E 'error|\*\*\*' "$work/log"; false; }
}

first="$work/one" second="$work/a much longer name/of a folder"
second=${second// /-}
check 'the sources can be copied' copy_tree "$first"
check 'build in another folder' make_in "$first"
for name in libunpu.a libunpu.so unpu; do
	check "$name is the same, byte for byte" cmp "$build/$name" "$first/build/$name"
done
same 'no folder of the build stands in what is built' '' \
	"$(grep -lF -e "$work" -e "$root" "$first/build/unpu" "$first/build/libunpu.so")"

check 'the sources can be copied again' copy_tree "$second"
check 'make CHAT=0' make_in "$second" CHAT=0 O="$work/elsewhere"
for name in libunpu.a libunpu.so; do
	check "CHAT=0, O=elsewhere: $name is the same" cmp "$build/$name" "$work/elsewhere/$name"
done
same 'CHAT=0: no libedit in the command' '' "$(nm "$work/elsewhere/unpu" | grep -w el_init)"
unpu=("$work/elsewhere/unpu")
run --version
check 'CHAT=0: the command runs' is_quiet
run chat no-such-model
check 'CHAT=0: unpu chat says why not' is_one_line 2 chat
finish
