#!/bin/bash
# SPDX-License-Identifier: MIT
# Manual pages and completion: what is committed is what the command prints, and both work.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

packaging=$root/tools/packaging
run --print-docs names
check '--print-docs names' is_quiet
mapfile -t commands <"$work/out"
check 'there are commands' [ "${#commands[@]}" -ge 7 ]

# ---- what is committed ----

# A build without chat lacks a page of its own and a line in the others.
if [ ! -e "$packaging/man/unpu-chat.1" ] || printf '%s\n' "${commands[@]}" | grep -qx chat; then
	for command in '' "${commands[@]}"; do
		page=unpu${command:+-$command}.1
		# shellcheck disable=SC2086
		run --print-docs man $command
		check "--print-docs man $command" is_quiet
		check "$page is what the command prints (make docs)" \
			cmp "$packaging/man/$page" "$work/out"
	done
	for pair in bash:unpu.bash zsh:_unpu; do
		run --print-docs "${pair%%:*}"
		check "--print-docs ${pair%%:*}" is_quiet
		check "${pair##*:} is what the command prints (make docs)" \
			cmp "$packaging/completion/${pair##*:}" "$work/out"
	done
	# And unpu.1, libunpu.3, unpu-vdev.1.
	same 'no page is left of a command that is gone' "$((${#commands[@]} + 3))" \
		"$(find "$packaging/man" -type f | wc -l)"
else
	skip 'what is committed is what the command prints' 'built without chat'
fi
for args in '' nonsense 'man nonsense' 'bash zsh' 'man run eval'; do
	# shellcheck disable=SC2086
	run --print-docs $args
	check "--print-docs $args" is_one_line 2 --print-docs
done

# ---- manual pages ----

run --help
check '--help keeps within 80 columns' eval '! grep -nE "^.{80}" "$work/out"'
for command in "${commands[@]}"; do
	run "$command" --help
	check "$command --help keeps within 80 columns" \
		eval '! grep -nE "^.{80}" "$work/out"'
	cp "$work/out" "$work/help"
	run --print-docs man "$command"
	sed 's/\\-/-/g' "$work/out" >"$work/page"
	while read -r option; do
		check "the page of $command has $option" grep -qE -- "Fl -${option#--}( |$)" \
			"$work/page"
	done < <(grep -oE '^  (-., |    )--[a-z0-9-]+' "$work/help" | grep -oE -- '--.*')
done
vdev=("${unpu[@]}")
vdev[-1]+=-vdev
while read -r option; do
	check "unpu-vdev.1 has $option" grep -qE "Fl -?${option#--}( |\$)" \
		"$packaging/man/unpu-vdev.1"
done < <("${vdev[@]}" --help | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE -- '--.*')
if command -v mandoc >/dev/null; then
	for page in "$packaging"/man/*; do
		same "mandoc has nothing against ${page##*/}" '' \
			"$(mandoc -T lint -W warning "$page")"
		mandoc -T utf8 "$page" | sed 's/.\x08//g' >"$work/text"
		check "${page##*/} has its name" grep -q "^  *\(lib\)*unpu.* – " "$work/text"
	done
	mandoc -T utf8 "$packaging/man/unpu-run.1" | sed 's/.\x08//g' >"$work/text"
	for part in NAME SYNOPSIS DESCRIPTION OPTIONS ENVIRONMENT 'EXIT STATUS' EXAMPLES \
		'SEE ALSO'; do
		check "unpu-run.1 has $part" grep -qx "$part" "$work/text"
	done
	check 'quotes in examples are straight' grep -qF "'Once upon a time'" "$work/text"
else
	skip 'what mandoc has against the pages' 'no mandoc on this machine'
fi

sed -n '/^.Bd/,/^.Ed/{/^\./!p}' "$packaging/man/libunpu.3" | sed 's/\\e/\\/g' >"$work/example.c"
if command -v cc >/dev/null; then
	check 'the example of libunpu.3 compiles' cc -std=c99 -Wall -Wextra -Wpedantic -Werror \
		-fsyntax-only -I "$root/runtime" "$work/example.c"
else
	skip 'the example of libunpu.3' 'no cc on this machine'
fi

# Each example is a command line that is understood: at most the file is missing.
while IFS= read -r line; do
	# Only the last command of a pipe would leave its status.
	eval "words=(${line%%|*})"
	printf '%s\n' "${commands[@]}" | grep -qx "${words[1]}" || continue
	(cd "$work" && "${unpu[@]}" "${words[@]:1}" >out 2>err </dev/null)
	status=$?
	check "the example '$line' is understood" [ "$status" -lt 2 ]
done < <(cat "$packaging"/man/*.1 | sed 's/\\-/-/g; s/\\(aq/'"'"'/g; s/\\(dq/"/g' |
	grep '^unpu [a-z]')

# ---- bash ----

# shellcheck source=tools/packaging/completion/unpu.bash
. "$packaging/completion/unpu.bash"
mkdir "$work/here" "$work/here/models"
cd "$work/here" || exit 1
touch a.gguf 'b c.gguf' text.txt

# $1: what must hold, $2: the completions, sorted, with blanks between; the rest: the words typed,
# the last of which is completed.
completes() {
	local what=$1 want=$2
	shift 2
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	_unpu
	same "bash: $what" "$want" \
		"$(printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | paste -sd ' ')"
}
completes 'commands by their beginning' 'eval' unpu e
completes '--version' '--version' unpu --v
completes 'models and folders' 'a.gguf b c.gguf models' unpu run ''
completes 'a model by its beginning' 'b c.gguf' unpu run b
completes 'a model behind options' 'a.gguf' unpu run -n 5 --kv = f16 --json a
completes 'no second model' '' unpu run a.gguf ''
completes 'a value is not the model' 'a.gguf' unpu run -p hello a
completes 'options by their beginning' '--stats --stop' unpu run a.gguf --st
completes 'options of the command only' '--greedy' unpu eval --g
completes 'no options of another command' '' unpu tokenize --g
completes 'KV types' 'f16 f32 int8' unpu run --kv ''
completes 'KV types behind =' 'f16 f32' unpu run --kv = f
completes 'KV types behind = at once' 'f16 f32 int8' unpu run --kv =
completes 'forms of chats' 'llama2 llama3' unpu run --template l
completes 'files' 'text.txt' unpu run --load t
completes 'files of any kind' 'a.gguf b c.gguf models text.txt' unpu eval --text ''
completes 'nothing where a number stands' '' unpu run -n ''
completes 'no model for devices' '' unpu devices ''
completes 'nothing for a command that is none' '' unpu nonsense --x
COMP_WORDS=(unpu run '') COMP_CWORD=2
_unpu
same 'bash: a name with a blank is one' 'b c.gguf' "$(printf '%s\n' "${COMPREPLY[@]}" | grep b)"
for command in "${commands[@]}"; do
	run "$command" --help
	COMP_WORDS=(unpu "$command" --) COMP_CWORD=2
	_unpu
	same "bash: all options of $command" \
		"$({ grep -oE '^  (-., |    )--[a-z0-9-]+' "$work/out" | grep -oE -- '--.*'
			echo --help; } | LC_ALL=C sort -u | paste -sd ' ')" \
		"$(printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | paste -sd ' ')"
done
cd "$root" || exit 1

# ---- zsh ----

if command -v zsh >/dev/null; then
	check 'zsh: the syntax' zsh -n "$packaging/completion/_unpu"
	cat >"$work/try.zsh" <<'END'
# $1: the folder with _unpu, $2: a command line. Prints what Tab offers.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; unset zle_bracketed_paste; stty -echo; fpath=($1 \$fpath)"
zpty -w shell "autoload -U compinit; compinit -D -u; zstyle ':completion:*' list-colors ''"
zpty -w shell "bindkey '^T' complete-word; setopt no_beep; LISTMAX=0; echo read''y"
zpty -r shell line '*ready*'
zpty -w -n shell "$2"$'\t'
zpty -r shell line "*$3*" && print -r -- found
END
	zsh_offers() { # $1: what, $2: a command line, $3: what must be offered
		same "zsh: $1" found "$(cd "$work/here" && timeout 20 zsh -f "$work/try.zsh" \
			"$packaging/completion" "$2" "$3" 2>&1 | tail -n 1)"
	}
	zsh_offers 'commands' 'unpu ben' 'bench'
	zsh_offers 'options' 'unpu run --prompt-c' 'cache'
	zsh_offers 'KV types' 'unpu run --kv in' 'int8'
	zsh_offers 'models' 'unpu run a' 'a.gguf'
else
	skip 'zsh completion' 'no zsh on this machine'
fi
finish
