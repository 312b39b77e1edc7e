#!/bin/bash
# SPDX-License-Identifier: MIT
# `make install` as a packager and as a user would: what is where and may be read by whom, twice,
# moved, stripped, taken away; and the programs of examples/ on nothing but what it installed.
# UNPU_BUILD: the folder of the build.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/../e2e/lib.bash"
build=${UNPU_BUILD:-$root/build}
version=$(sed -n 's/^#define UNPU_VERSION_STRING[^"]*"\(.*\)"/\1/p' "$root/runtime/unpu.h")
soname=libunpu.so.${version%%.*}
unset MAKEFLAGS MAKELEVEL DESTDIR PREFIX LIBDIR PKG_CONFIG_PATH

# WERROR as tests/run builds, so that nothing is built again.
install_to() {
	make -C "$root" O="$build" WERROR=1 "$@" >"$work/log" 2>&1 ||
		{ tail -n 3 "$work/log"; false; }
}

# What find says of a tree but for times: kind, mode, name, where a link leads.
tree_of() { (cd "$1" && find . -printf '%y %m %p %l\n' | sort); }
sums_of() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }

wanted() { # $1: prefix, $2: libdir, both below the root
	local page
	printf 'f 755 %s\n' "$1/bin/unpu" "$1/bin/unpu-vdev"
	# A build without Vulkan has none.
	if test -e "$build/unpu-probe"; then printf 'f 755 %s\n' "$1/libexec/unpu/unpu-probe"; fi
	printf 'f 644 %s\n' "$1/include/unpu.h" "$2/libunpu.a" "$2/libunpu.so.$version" \
		"$2/pkgconfig/unpu.pc"
	printf 'l 777 %s libunpu.so.'"$version"'\n' "$2/libunpu.so" "$2/$soname"
	printf 'f 644 %s\n' "$1/share/man/man3/libunpu.3"
	for page in "$root"/tools/packaging/man/*.1; do
		printf 'f 644 %s\n' "$1/share/man/man1/${page##*/}"
	done
	printf 'f 644 %s\n' "$1/share/bash-completion/completions/unpu" \
		"$1/share/zsh/site-functions/_unpu"
}

# $1: what, $2: root, $3 and $4 as for wanted. Folders are judged by their mode only.
check_tree() {
	same "$1: files, links and their modes" "$(wanted "$3" "$4" | sort)" \
		"$(tree_of "$2" | grep -v '^d' | sed 's/ *$//')"
	same "$1: folders" '' "$(tree_of "$2" | grep '^d' | grep -v '^d 755 ')"
}

# ---- into a packager's root ----

packaged="$work/a root"
(umask 077 && install_to install DESTDIR="$packaged" PREFIX=/usr LIBDIR=/usr/lib/arch) >"$work/out"
same 'make install with DESTDIR, PREFIX and LIBDIR' '' "$(cat "$work/out")"
chmod 755 "$packaged"
check_tree 'umask 077' "$packaged" ./usr ./usr/lib/arch
sums_of "$packaged" >"$work/once"
check 'make install again' install_to install DESTDIR="$packaged" PREFIX=/usr LIBDIR=/usr/lib/arch
check_tree 'a second time' "$packaged" ./usr ./usr/lib/arch
sums_of "$packaged" >"$work/twice"
check 'a second time installs the same' cmp "$work/once" "$work/twice"
same 'nothing installed names the root' '' "$(grep -rlF "$work" "$packaged")"
check 'make uninstall' install_to uninstall DESTDIR="$packaged" PREFIX=/usr LIBDIR=/usr/lib/arch
same 'make uninstall leaves no file' '' "$(find "$packaged" ! -type d)"
check 'make uninstall again' install_to uninstall DESTDIR="$packaged" PREFIX=/usr \
	LIBDIR=/usr/lib/arch

# ---- where a user may write ----

prefix=$work/opt
check 'make install with PREFIX' install_to install PREFIX="$prefix"
check_tree 'PREFIX' "$prefix" . ./lib
same 'the installed command runs' "unpu $version" "$("$prefix/bin/unpu" --version 2>&1)"
if [ "$(id -u)" != 0 ]; then
	pass # all of this ran as an ordinary user
else
	as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	chmod 711 "$work" && mkdir -m 777 "$work/free"
	if "${as_user[@]}" test -r "$root/Makefile" -a -r "$build/unpu"; then
		check 'make install as an ordinary user' "${as_user[@]}" make -s -C "$root" \
			O="$build" WERROR=1 install PREFIX="$work/free/unpu"
		check_tree 'as an ordinary user' "$work/free/unpu" . ./lib
	else
		skip 'make install as an ordinary user' 'this tree is not readable for one'
	fi
fi

# ---- pkg-config ----

pkgconfig=$(command -v pkgconf || command -v pkg-config)
if [ -z "$pkgconfig" ]; then
	skip 'pkg-config and the examples' 'no pkg-config on this machine'
	finish
fi
pkg() { PKG_CONFIG_PATH=$where/lib/pkgconfig "$pkgconfig" "$@" 2>&1; }

where=$prefix
same 'pkg-config says the version' "$version" "$(pkg --modversion unpu)"
same 'pkg-config --cflags' "-I$prefix/include" "$(pkg --cflags unpu | sed 's/ *$//')"
same 'pkg-config --libs' "-L$prefix/lib -lunpu" "$(pkg --libs unpu | sed 's/ *$//')"
for need in -lpcre2-8 -lm -pthread; do
	check "pkg-config --static --libs has $need" \
		grep -qw -- "$need" <(pkg --static --libs unpu)
done
check 'the .pc file is well-formed' pkg --validate unpu
cp -a "$prefix" "$work/moved"
where=$work/moved
for flag in "-I$where/include" "-L$where/lib"; do
	check "pkg-config of a moved tree has $flag" \
		grep -qwF -- "$flag" <(pkg --define-prefix --cflags --libs unpu)
done
same 'pkg-config of a moved tree does not name the old one' '' \
	"$(pkg --define-prefix --cflags --libs unpu | grep -F "$prefix")"

# ---- the examples, on what was installed ----

# An answer of the second takes so long that it ends by being cancelled.
make_tiny llama q8_0 hidden=512 ffn=2048 layers=6 context=512
slow=$tiny
make_tiny llama q8_0 tokenizer=bpe hidden=64 context=512
printf 'A lamp that is switched on gives light. It is switched off at night.\n' >"$work/document"

# $1: what, $2: folder of the programs.
run_examples() {
	local name=$1 in=$2
	check "$name: complete" "$in/complete" "$tiny" 'The light' >"$work/text"
	"$in/complete" "$tiny" 'The light' >"$work/text" 2>"$work/err"
	same "$name: complete says nothing of errors" '' "$(cat "$work/err")"
	check "$name: complete writes the text and what follows" \
		bash -c "grep -aq '^The light.' '$work/text'"
	"$in/complete" "$work/no-such-model" >"$work/out" 2>"$work/err"
	same "$name: complete without a model" '1 1' "$? $(grep -c '^complete: .*no-such-model' \
		"$work/err")"
	printf 'Hello\n\nAnd again\n' | "$in/chat" "$tiny" alpaca >"$work/out" 2>"$work/err"
	same "$name: chat" '0 > > > > ' "$? $(cat "$work/err")"
	check "$name: chat answers" test -s "$work/out"
	printf 'Hello\n' | "$in/chat" "$tiny" no-such-form >"$work/out" 2>"$work/err"
	same "$name: chat with an unknown form" '1 1' "$? $(grep -c no-such-form "$work/err")"
	rm -f "$work/state"
	embed "$name: embed, first" 0 'Is it dark?'
	embed "$name: embed, the same again" all 'Is it dark?'
	embed "$name: embed, another question" some 'When is it off?'
	head -c 100 "$work/state" >"$work/cut" && mv "$work/cut" "$work/state"
	embed "$name: embed, state damaged" 0 'Is it dark?'
	"$in/embed" "$slow" "$work/document" "$work/none" 'Is it dark?' 0 >"$work/out" 2>"$work/err"
	same "$name: embed cancels itself" '0 1' "$? $(grep -c 'stopped after 0 s' "$work/err")"
}

# $1: what, $2: how many tokens the state spares, $3: question. Answers are always the same.
embed() {
	local kept of
	"$in/embed" "$tiny" "$work/document" "$work/state" "$3" >"$work/out" 2>"$work/err"
	same "$1" 0 $?
	read -r kept of < <(sed -n 's/^embed: \([0-9]*\) of \([0-9]*\) tokens.*/\1 \2/p' \
		"$work/err")
	case $2 in
	0) same "$1: kept" 0 "$kept" ;;
	all) check "$1: kept $kept of $of" [ "$kept" -ge $((of - 1)) ] ;;
	some) check "$1: kept $kept of $of" [ "$kept" -ge 20 ] ;;
	esac
	[ -e "$work/answer-$3" ] || cp "$work/out" "$work/answer-$3"
	check "$1: the same answer" cmp "$work/answer-$3" "$work/out"
}

# $1: what, $2: folder for the programs, the rest: for the examples' make.
build_examples() {
	local name=$1 in=$2
	shift 2
	mkdir -p "$in"
	check "$name: built" env PKG_CONFIG_PATH="$where/lib/pkgconfig" make -C "$root/examples" \
		O="$in" CFLAGS='-O2 -Wall -Wextra -Wpedantic -Werror' PKG_CONFIG="$pkgconfig" "$@"
}

where=$prefix
build_examples shared "$work/shared"
for program in complete chat embed; do
	check "shared: $program needs $soname" bash -c \
		"readelf -d '$work/shared/$program' | grep -qF 'NEEDED' &&
		readelf -d '$work/shared/$program' | grep -qF '[$soname]'"
done
export LD_LIBRARY_PATH=$prefix/lib
run_examples shared "$work/shared"
unset LD_LIBRARY_PATH

build_examples static "$work/static" STATIC=1
for program in complete chat embed; do
	same "static: $program needs no shared library" '' \
		"$(readelf -d "$work/static/$program" | grep NEEDED)"
done
run_examples static "$work/static"

if echo 'int x;' | g++ -x c++ -fsyntax-only - 2>/dev/null; then
	mkdir "$work/cxx"
	for program in complete chat embed; do
		# shellcheck disable=SC2046
		check "C++: $program" g++ -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror \
			-pthread $(pkg --cflags unpu) -o "$work/cxx/$program" \
			"$root/examples/$program.c" -x none $(pkg --libs unpu) \
			"-Wl,-rpath,$prefix/lib"
	done
	run_examples C++ "$work/cxx"
else
	skip 'the examples as C++' 'no g++ on this machine'
fi

# ---- without symbols ----

prefix=$work/stripped
where=$prefix
check 'make install-strip' install_to install-strip PREFIX="$prefix"
check_tree 'install-strip' "$prefix" . ./lib
for name in bin/unpu bin/unpu-vdev "lib/libunpu.so.$version" lib/libunpu.a; do
	same "$name has no debug information" '' \
		"$(readelf -SW "$prefix/$name" | grep -F .debug_info)"
done
same 'libunpu.so exports what it did' "$(nm -D --defined-only "$build/libunpu.so")" \
	"$(nm -D --defined-only "$prefix/lib/libunpu.so")"
same 'the stripped command runs' "unpu $version" "$("$prefix/bin/unpu" --version 2>&1)"
build_examples 'stripped, static' "$work/stripped-static" STATIC=1
check 'stripped, static: complete' "$work/stripped-static/complete" "$tiny" 'The light'
build_examples 'stripped, shared' "$work/stripped-shared"
check 'stripped, shared: complete' env LD_LIBRARY_PATH="$prefix/lib" \
	"$work/stripped-shared/complete" "$tiny" 'The light'
finish
