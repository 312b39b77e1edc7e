# SPDX-License-Identifier: MIT
# Shared by tests/e2e/*.sh. Environment: UNPU, the command (it may begin with an emulator), and
# UNPU_BUILD, the folder it was built in; MKTINY, the maker of tiny models; UNPU_SHARED, the folder
# with data that a clone does not have. Prints a line for each check that fails or is skipped;
# finish prints "N passed, N failed, N skipped".
# shellcheck shell=bash
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
read -r -a unpu <<<"${UNPU:-${UNPU_BUILD:-$root/build}/unpu}"
shared=${UNPU_SHARED:-$root/../shared}
python=$(command -v /usr/bin/python3 || command -v python3)
work=$(mktemp -d) || exit 1
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
# Set where the command is many times slower: then tables are thinned, never left out.
slow=${UNPU_SANITIZED:-}${UNPU_EMULATED:-}

pass() { passed=$((passed + 1)); }

fail() { # $1: what must hold, $2: what was found
	failed=$((failed + 1))
	printf 'FAIL %s: %s' "$1" "${2:-it does not}" | head -c 400 | tr -c '[:print:]' ' '
	echo
}

skip() { # $1: what is not tested, $2: why
	skipped=$((skipped + 1))
	printf 'SKIP %s: %s\n' "$1" "$2"
}

finish() {
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" = 0 ]
	exit
}

# Runs the command with what follows: $work/out, $work/err, $status.
run() {
	"${unpu[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
}

# $1: what must hold, the rest: a command that must succeed, or says on stdout why it does not.
check() {
	local what=$1 said
	shift
	if said=$("$@" 2>&1); then
		pass
	else
		fail "$what" "$said"
	fi
}

# $1: what must hold, $2: what is wanted, $3: what there is.
same() {
	if [ "$2" = "$3" ]; then
		pass
	else
		fail "$1" "wanted '$2', got '$3'"
	fi
}

# The last run ended well and said nothing on stderr.
is_quiet() {
	[ "$status" = 0 ] && [ ! -s "$work/err" ] && return
	echo "exit $status: $(cat "$work/err")"
	return 1
}

# The last run ended with status $1 after one line on stderr that begins with "unpu: ", has no
# control characters and names $2.
is_one_line() {
	local lines
	lines=$(wc -l <"$work/err")
	if [ "$status" = "$1" ] && [ "$lines" = 1 ] && grep -q '^unpu: .' "$work/err" &&
		grep -qF -- "${2:-}" "$work/err" && [ "$(tail -c 1 "$work/err")" = '' ] &&
		! tr -d '\n' <"$work/err" | LC_ALL=C grep -q '[[:cntrl:]]'; then
		return 0
	fi
	echo "exit $status, $lines lines: $(cat "$work/err")"
	return 1
}

# A tiny model: $1 architecture, $2 type, then key=value. Its path is in $tiny; made once.
make_tiny() {
	local key="$*"
	tiny=$work/tiny-${key//[^A-Za-z0-9]/-}.gguf
	[ -e "$tiny" ] || "$mktiny" "$1" "$2" "$tiny" "${@:3}"
}

find_mktiny() {
	local place
	for place in "${MKTINY:-}" "${UNPU_BUILD:-$root/build}/tests/lib/mktiny" \
		"$root/build/tests/lib/mktiny"; do
		mktiny=$place
		if [ -x "$place" ] && make_tiny llama f32 2>/dev/null; then
			return
		fi
	done
	fail 'a maker of tiny models' 'no mktiny that runs (make tests)'
	finish
}

# From here to as_before the command runs as a user whom permissions bind; false when it cannot.
as_nobody() {
	unpu_before=("${unpu[@]}")
	[ "$(id -u)" = 0 ] || return 0
	unpu=(setpriv --reuid=65534 --regid=65534 --clear-groups "${unpu[@]}")
	"${unpu[@]}" --version >/dev/null 2>&1 && return
	as_before
	return 1
}

as_before() { unpu=("${unpu_before[@]}"); }

# $1: a name below ../shared. When it is not there, false after a skip that names $2.
have_shared() {
	[ -e "$shared/$1" ] && return
	skip "$2" "no $1 in ../shared"
	return 1
}

have_python() { # $1: what needs it, $2: a module
	[ -n "$python" ] && "$python" -c "import ${2:-sys}" 2>/dev/null && return
	skip "$1" "no python3 with ${2:-sys}"
	return 1
}

# Instruction sets that this machine and this build of the command have, lowest first.
masks() {
	local mask
	for mask in c avx2 avx512vnni neon neon_dotprod; do
		UNPU_CPUMASK=$mask "${unpu[@]}" devices 2>/dev/null |
			grep -qE "^cpu +cpu $mask([ ,]|$)" && echo "$mask"
	done
}

find_mktiny
