#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu run: prompt, continuation, seeds, statistics, ends of all kinds.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q8_0 context=256
model=$tiny

# ---- prompt and continuation ----

run run "$model" -p 'Hello world' -n 12 --temp 0
check 'run' is_quiet
cp "$work/out" "$work/whole"
same 'the prompt comes first' 'Hello world' "$(head -c 11 "$work/out")"
same 'a newline comes last' '0a' "$(tail -c 1 "$work/out" | od -An -tx1 | tr -d ' ')"
run run "$model" -p 'Hello world' -n 12 --temp 0 --no-echo
check '--no-echo' is_quiet
check '--no-echo leaves out the prompt and nothing else' \
	cmp <(tail -c +12 "$work/whole") "$work/out"

printf 'Hello world' >"$work/prompt"
run run "$model" -f "$work/prompt" -n 12 --temp 0
check '-f FILE is as -p' cmp "$work/whole" "$work/out"
"${unpu[@]}" run "$model" -n 12 --temp 0 <"$work/prompt" >"$work/out" 2>"$work/err"
check 'stdin is as -p' cmp "$work/whole" "$work/out"
"${unpu[@]}" run "$model" -f - -n 12 --temp 0 <"$work/prompt" >"$work/out" 2>"$work/err"
check '-f - is stdin' cmp "$work/whole" "$work/out"
"${unpu[@]}" run "$model" -n 12 --temp 0 < <(printf Hello; sleep 0.2; printf ' world') \
	>"$work/out" 2>"$work/err"
check 'stdin in pieces is as -p' cmp "$work/whole" "$work/out"
run run "$model" -f <(printf 'Hello world') -n 12 --temp 0
check '-f may be a pipe' is_quiet

printf 'line\n\ttab \377\376 \0 nul\n' >"$work/bytes"
"${unpu[@]}" run "$model" -n 0 <"$work/bytes" >"$work/out" 2>"$work/err"
status=$?
check 'any bytes are a prompt' is_quiet
check 'any bytes are echoed as they are' cmp <(cat "$work/bytes"; echo) "$work/out"

run run "$model" -p 'Hello' -n 0
same '-n 0 writes the prompt' 'Hello' "$(cat "$work/out")"
for n in 1 2 5; do
	run run "$model" -p 'Hello world' -n $n --temp 0 --no-echo --stats
	check "-n $n: as many tokens" grep -qE "^decode +$n tokens" "$work/err"
done

# ---- an empty prompt ----

run run "$model" -p '' -n 4 --temp 0
check 'an empty prompt starts from BOS' is_quiet
: >"$work/nothing"
run run "$model" -f "$work/nothing" -n 4 --temp 0
check 'an empty file starts from BOS' is_quiet
make_tiny gpt2 f32
run run "$tiny" -p '' -n 4 --temp 0
check 'an empty prompt without BOS' is_one_line 1 'prompt is empty'
"${unpu[@]}" run "$model" -n 4 <&- >"$work/out" 2>"$work/err"
status=$?
check 'stdin closed' is_one_line 1 'standard input'
"${unpu[@]}" run "$model" -n 4 </ >"$work/out" 2>"$work/err"
status=$?
check 'stdin is a directory' is_one_line 1 'standard input'

# ---- seeds and samplers ----

for seed in 0 1 18446744073709551615; do
	run run "$model" -p 'Hello' -n 40 --temp 1.5 --seed $seed --stats
	same "--seed $seed is the seed" "$seed" "$(sed -n 's/^seed  *//p' "$work/err")"
	cp "$work/out" "$work/first"
	for threads in 1 2 3; do
		run run "$model" -p 'Hello' -n 40 --temp 1.5 --seed $seed -t $threads
		check "--seed $seed gives the same text again (-t $threads)" \
			cmp "$work/first" "$work/out"
	done
done
run run "$model" -p 'Hello' -n 40 --temp 1.5 --seed 2
check 'another seed, another text' eval '! cmp -s "$work/first" "$work/out"'
run run "$model" -p 'Hello' -n 40 --temp 1.5 --stats
cp "$work/out" "$work/first"
seed=$(sed -n 's/^seed  *//p' "$work/err")
run run "$model" -p 'Hello' -n 40 --temp 1.5 --seed "$seed"
check 'the seed that --stats shows gives the text again' cmp "$work/first" "$work/out"
run run "$model" -p 'Hello' -n 1 --stats
check 'two runs have two seeds' eval '[ "$seed" != "$(sed -n "s/^seed  *//p" "$work/err")" ]'

run run "$model" -p 'Hello' -n 20 --temp 0 --seed 1
cp "$work/out" "$work/greedy"
run run "$model" -p 'Hello' -n 20 --temp 0 --seed 2
check '--temp 0 asks no seed' cmp "$work/greedy" "$work/out"
for args in '--top-k 1' '--top-k 1 --temp 5' '--min-p 1' '--top-p 0.001' '--temp 0.0001'; do
	# shellcheck disable=SC2086
	run run "$model" -p 'Hello' -n 20 $args
	check "$args is greedy" cmp "$work/greedy" "$work/out"
done
for args in '--top-k 0' '--top-p 1' '--min-p 0' '--repeat-penalty 1.3' '--temp 100' \
	'--repeat-penalty 100 --repeat-last-n 5' '--repeat-last-n 2147483647' \
	'--top-k 0 --top-p 1 --min-p 0 --temp 2' '--top-k 2147483647'; do
	# shellcheck disable=SC2086
	run run "$model" -p 'Hello' -n 20 --seed 5 $args
	check "$args" is_quiet
done
run run "$model" -p 'Hello' -n 20 --temp 0 --repeat-penalty 1.0
check '--repeat-penalty 1 changes nothing' cmp "$work/greedy" "$work/out"

# ---- context ----

run run "$model" -p 'Hello' -n 200 --temp 0 -c 20
same 'a full context is no error' 0 "$status"
check 'a full context is said' is_one_line 0 '20 tokens is full'
cp "$work/out" "$work/full"
run run "$model" -p 'Hello' -n 200 --temp 0
check 'a full context cuts the same text' cmp <(head -c -1 "$work/full") \
	<(head -c $(($(stat -c %s "$work/full") - 1)) "$work/out")
long=$(printf 'word %.0s' {1..200})
run run "$model" -p "$long" -n 4
check 'a prompt longer than the context' is_one_line 1 'context has room for 256'
check 'a prompt longer than the context is not echoed' [ ! -s "$work/out" ]
run run "$model" -p 'Hello world' -n 4 -c 3
check 'a prompt longer than -c' is_one_line 1 'room for 3'
run run "$model" -p a -n 4 -c 257
check "-c above the model's" is_one_line 1 256
run run "$model" -p a -n 4 -c 256
check "-c as the model's" is_quiet
run run "$model" -p a -n 1000000 --temp 1 --seed 3
same 'the default context ends the text too' 0 "$status"

# ---- --stats ----

run run "$model" -p 'Hello world' -n 8 --temp 0 --seed 7 --stats --kv f32 -t 2 -c 100
same '--stats' 0 "$status"
for want in 'load +[0-9.]+ ms$' 'prompt +[1-9][0-9]* tokens, [0-9.]+ tokens/s$' \
	'decode +8 tokens, [0-9.]+ tokens/s$' 'memory +[0-9.]+ MiB' \
	'context +[0-9]+ of 100 tokens' 'kv +f32, [1-9][0-9]* bytes$' 'seed +7$' \
	'device +cpu, .*2 threads' 'end +as many tokens'; do
	check "--stats shows $want" grep -qE "^$want" "$work/err"
done
kv32=$(sed -n 's/^kv .* \([0-9]*\) bytes$/\1/p' "$work/err")
run run "$model" -p 'Hello world' -n 8 --temp 0 --stats --kv f16 -t 2 -c 100
same '--kv f16 takes half of f32' $((kv32 / 2)) \
	"$(sed -n 's/^kv .* \([0-9]*\) bytes$/\1/p' "$work/err")"
run run "$model" -p 'Hello world' -n 8 --temp 0 --stats
same '--stats adds nothing to stdout' "$(cut -c 1-11 "$work/whole" | head -n 1)" \
	"$(head -n 1 "$work/out" | cut -c 1-11)"

# ---- readers that go, disks that are full ----

"${unpu[@]}" run "$model" -p 'Hello world' -n 200 2>"$work/err" </dev/null |
	head -c 1 >"$work/out"
status=${PIPESTATUS[0]}
check 'a broken pipe' is_quiet
mkfifo "$work/gone"
"${unpu[@]}" run "$model" -p 'Hello world' -n 200 >"$work/gone" 2>"$work/err" </dev/null &
pid=$!
: <"$work/gone"
wait $pid
status=$?
check 'a reader that goes at once' is_quiet
(trap '' PIPE; exec "${unpu[@]}" run "$model" -p a -n 200 2>"$work/err" </dev/null) | :
status=${PIPESTATUS[0]}
check 'a broken pipe with SIGPIPE ignored' is_quiet
"${unpu[@]}" run "$model" -p 'Hello' -n 9 >/dev/full 2>"$work/err" </dev/null
status=$?
check 'a full disk' is_one_line 1 'No space left'
"${unpu[@]}" run "$model" -p 'Hello' -n 9 --no-echo >/dev/full 2>"$work/err" </dev/null
status=$?
check 'a full disk, --no-echo' is_one_line 1 'No space left'
"${unpu[@]}" run "$model" -p 'Hello' -n 9 >&- 2>"$work/err" </dev/null
status=$?
check 'stdout closed' is_one_line 1 'standard output'
"${unpu[@]}" run "$model" -p 'Hello' -n 9 --temp 0 2>&- </dev/null >"$work/out"
same 'stderr closed' 0 $?

# ---- Ctrl-C ----

# Starts the command, stdin from descriptor 8, with SIGINT as a terminal has it: a shell's
# background jobs ignore it.
exec 8</dev/null
background() {
	env --default-signal=INT "${unpu[@]}" "$@" >"$work/out" 2>"$work/err" <&8 &
	pid=$!
}

wait_for_output() { # $1: more bytes than so many
	local i
	for i in {1..500}; do
		[ "$(stat -c %s "$work/out")" -gt "$1" ] && return
		kill -0 $pid 2>/dev/null || return
		sleep 0.02
	done
}

# Greedy text of random weights soon turns in circles; it ends only with an end token in the circle.
found=
for seed in 1 2 3 4 5 6; do
	make_tiny llama f32 context=60000 layers=4 seed=$seed
	background run "$tiny" -p Hello -n 1000000 -c 60000 --temp 0 --stats
	wait_for_output 200
	if kill -INT $pid 2>/dev/null; then
		found=1
		wait $pid
		status=$?
		break
	fi
	wait $pid
done
if [ -n "$found" ]; then
	same 'Ctrl-C ends with 130' 130 "$status"
	same 'Ctrl-C: the prompt stands' Hello "$(head -c 5 "$work/out")"
	same 'Ctrl-C: a newline comes last' '0a' \
		"$(tail -c 1 "$work/out" | od -An -tx1 | tr -d ' ')"
	check 'Ctrl-C: --stats are shown' grep -q '^end  *interrupted' "$work/err"
	check 'Ctrl-C: no error line' eval '! grep -q ^unpu: "$work/err"'
else
	fail 'Ctrl-C ends with 130' 'no model whose text is long enough'
fi
mkfifo "$work/typing"
exec 8<>"$work/typing"
background run "$model"
sleep 0.5
kill -INT $pid
wait $pid
same 'Ctrl-C while the prompt is read' 130 $?
exec 8<&-
same 'Ctrl-C while the prompt is read: a newline' '' "$(cat "$work/out")"
check 'Ctrl-C while the prompt is read: nothing is said' [ ! -s "$work/err" ]
(trap '' INT; "${unpu[@]}" run "$model" -p a -n 5 >"$work/out" 2>"$work/err" </dev/null & pid=$!
	kill -INT $pid; wait $pid)
same 'SIGINT that the parent ignores stays ignored' 0 $?

# ---- every architecture and type ----

for arch in llama qwen2 qwen3 gpt2; do
	for type in f32 f16 bf16 q8_0 q4_0; do
		make_tiny $arch $type
		run run "$tiny" -p 'Hello world' -n 16 --temp 0
		check "run $arch $type" is_quiet
		check "run $arch $type writes text" [ "$(stat -c %s "$work/out")" -ge 12 ]
		cp "$work/out" "$work/first"
		run run "$tiny" -p 'Hello world' -n 16 --temp 0 -t 3 --batch 2
		check "run $arch $type: threads and batch change nothing" \
			cmp "$work/first" "$work/out"
	done
done
finish
