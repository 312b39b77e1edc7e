#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu.h stands alone and says the same in every language it is for; a program of each links with
# both libraries. UNPU_BUILD: the folder of the build.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/../e2e/lib.bash"
build=${UNPU_BUILD:-$root/build}
source=$root/tests/api/header.c
mkdir "$work/include" && cp "$root/runtime/unpu.h" "$work/include" || exit 1
warnings=(-Wall -Wextra -Wpedantic -Werror "-I$work/include")

# $1: a compiler, $2: a standard, $3: its language
in_language() {
	check "unpu.h in $2 by $1" "$1" -x "$3" -std="$2" "${warnings[@]}" -c \
		-o "$work/$1-$2.o" "$source"
	# It stands behind any other header and may be included twice.
	printf '%s\n' '#include <unpu.h>' '#include <unpu.h>' 'extern int x;' >"$work/twice.c"
	check "unpu.h twice in $2 by $1" "$1" -x "$3" -std="$2" "${warnings[@]}" -fsyntax-only \
		"$work/twice.c"
}

for compiler in gcc clang; do
	if ! command -v "$compiler" >/dev/null; then
		skip "unpu.h by $compiler" "no $compiler on this machine"
		continue
	fi
	for standard in c99 c11 c17 gnu11; do
		in_language "$compiler" "$standard" c
	done
	if ! echo 'int x;' | "$compiler" -x c++ -fsyntax-only - 2>/dev/null; then
		skip "unpu.h in C++ by $compiler" "$compiler has no C++ on this machine"
		continue
	fi
	for standard in c++11 c++17 c++20; do
		in_language "$compiler" "$standard" c++
	done
done

# Both languages mean the same symbols: what C++ compiled links with the C library.
for object in "$work"/*-c11.o "$work"/*-c++11.o; do
	[ -e "$object" ] || continue
	name=${object##*/}
	check "${name%.o} links with libunpu.a" gcc -o "$work/program" "$object" \
		"$build/libunpu.a" -lpcre2-8 -lm -pthread
	check "${name%.o} runs" "$work/program"
	check "${name%.o} links with libunpu.so" gcc -o "$work/program" "$object" \
		"-L$build" -lunpu "-Wl,-rpath,$build"
	check "${name%.o} runs with libunpu.so" "$work/program"
	check "${name%.o} uses libunpu.so by its soname" \
		bash -c "readelf -d '$work/program' | grep -q 'NEEDED.*libunpu\.so\.[0-9]*\]'"
done
finish
