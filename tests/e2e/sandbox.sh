#!/bin/bash
# SPDX-License-Identifier: MIT
# All commands that take a model do under the sandbox what they do without it; what a conversation
# may open shows that it is in force. Which calls it refuses is tests/unit/sandbox.c.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q8_0 context=60000 layers=4
long=$tiny	# seconds of text
make_tiny llama q8_0 context=256
model=$tiny
case ${unpu[-1]} in
/*) ;;
*) unpu[-1]=$PWD/${unpu[-1]} ;;
esac
cd "$work" || exit 1
mkdir inside outside
for _ in $(seq 20); do
	echo 'The quick brown fox jumps over the lazy dog.'
done >text

# $1: what, the rest: a command whose stdout is the same both ways, and that says nothing.
both() {
	local what=$1
	shift
	run "$@" --no-sandbox
	check "$what without" is_quiet
	cp out without
	run "$@"
	check "$what within" is_quiet
	check "$what: the same within and without" cmp without out
}

both tokenize tokenize "$model" -f text
both detokenize detokenize "$model" 300 301 302
both info info "$model" --tensors --json
both 'eval --tokens' eval "$model" --tokens '1 2 300' --greedy 5
both 'eval --text' eval "$model" --text text -c 128
for threads in 1 2; do
	both "run with $threads threads" run "$model" -p 'Hello world' -n 20 --temp 0 -t $threads
done
both 'run --chat' run "$model" --chat --template chatml -p 'Hello' -n 5 --temp 0

run eval "$model" --tokens '1 2 300' --logits outside/within
run eval "$model" --tokens '1 2 300' --logits outside/without --no-sandbox
check 'logits within and without' cmp outside/within outside/without
run run "$model" -p 'Hello world' -n 6 --temp 0 --save outside/session
check 'a session is saved in another folder' is_quiet
both 'run --load' run "$model" --load outside/session -n 6 --temp 0
# Made, then read and replaced.
for text in 'Hello world' 'Hello world and all'; do
	run run "$model" -p "$text" -n 6 --temp 0 --prompt-cache outside/cache
	check 'a prompt cache' is_quiet
	cp out cached
	run run "$model" -p "$text" -n 6 --temp 0
	check 'a prompt cache changes nothing' cmp cached out
done
same 'nothing else is left' 'cache session within without' "$(cd outside && echo *)"
if [ -n "${UNPU_EMULATED:-}" ]; then
	skip 'bench starts its programs' 'an emulated program cannot start itself'
else
	run bench "$model" -r 1 -p 8 -n 2 --json
	check 'bench starts its programs' is_quiet
fi

# ---- is it in force? ----

in_force() { # the sandbox of the last run, as --stats tell it
	sed -n 's/^sandbox  //p' err
}

run run "$model" -p a -n 1 --stats --no-sandbox
without=$(in_force)
run run "$model" -p a -n 1 --stats
sandbox=$(in_force)
run devices
case $sandbox in
'none: built with sanitizers')
	same 'the sanitizers keep it off' "$sandbox" "$without" ;;
*)
	same '--no-sandbox is said' 'none: --no-sandbox' "$without" ;;
esac
check 'devices tell what there is' grep -qxF "sandbox    $sandbox" out

# A signal that ends the command takes its unfinished files along, within as without.
for option in '' --no-sandbox; do
	# A signal that meets the shell before it has become the command would end this script.
	rm -f out
	# shellcheck disable=SC2086
	"${unpu[@]}" run "$long" -p a -n 100000 -c 60000 --temp 0 --bias 2=-inf \
		--save inside/unfinished $option </dev/null >out 2>err &
	pid=$!
	for _ in $(seq 100); do
		[ -s out ] && break
		sleep 0.1
	done
	kill -TERM $pid 2>/dev/null
	wait $pid 2>/dev/null
	status=$?
	if [ $status = 0 ]; then
		rm -f inside/unfinished
		skip "SIGTERM ${option:-within}" 'the text ended before the signal came'
	else
		same "SIGTERM ends it ${option:-within}" 143 $status
		same "and leaves nothing ${option:-within}" '' "$(ls inside)"
	fi
done

if ! "${unpu[@]}" --help | grep -q '^  chat '; then
	skip 'what a conversation opens' 'built without chat'
	finish
fi
chat() { # $1: a line of somebody who talks, the rest: options
	local line=$1
	shift
	printf 'Hello\n%s\n' "$line" |
		"${unpu[@]}" chat "$model" --template chatml -n 2 --temp 0 "$@" >out 2>err
	status=$?
}

chat '/save talk'
same '/save beneath the folder' 0 "$status"
chat '/load talk'
same '/load beneath the folder' 0 "$status"
mkdir elsewhere
cp talk elsewhere/
cd inside || exit 1
work=$PWD
chat '/load ../elsewhere/talk' --no-sandbox
same '/load of another folder without the sandbox' 0 "$status"
chat '/save ../elsewhere/saved' --no-sandbox
same '/save in another folder without the sandbox' 0 "$status"
case $sandbox in
landlock*)
	chat '/load ../elsewhere/talk'
	same '/load of another folder' 1 "$status"
	check 'which is said' grep -q '^unpu: .*elsewhere/talk: Permission denied$' err
	chat '/save ../elsewhere/more'
	same '/save in another folder' 1 "$status"
	same 'which is not made' 'saved talk' "$(cd ../elsewhere && echo *)" ;;
*)
	skip 'files of other folders are refused' "$sandbox" ;;
esac
work=${work%/inside}
finish
