#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu eval --text: against an independent computation, and what it does with texts of any length.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama f32 context=256
model=$tiny
head -c 1500 "$root/tests/e2e/eval.sh" | tr -c 'a-z .\n' ' ' >"$work/text"

run eval "$model" --text "$work/text" --window 64
check 'eval --text' is_quiet
same 'the result is one line' 1 "$(wc -l <"$work/out")"
check 'the result is named' grep -qE \
	'^perplexity [0-9.]+ \+- [0-9.]+, [0-9]+ tokens scored in [0-9]+ windows$' "$work/out"
cp "$work/out" "$work/result"
"${unpu[@]}" eval "$model" --text - --window 64 <"$work/text" >"$work/out" 2>"$work/err"
status=$?
check '--text - is stdin' cmp "$work/result" "$work/out"
for args in '-t 1' '-t 3' '--batch 1' '--batch 7' '--batch 64' '-c 64' '-c 200'; do
	# shellcheck disable=SC2086
	run eval "$model" --text "$work/text" --window 64 $args
	check "$args changes nothing" cmp "$work/result" "$work/out"
done
run eval "$model" --text "$work/text" -c 64
check 'a smaller context makes smaller windows' cmp "$work/result" "$work/out"
run eval "$model" --text "$work/text" --window 65 -c 64
check 'a window above the context' is_one_line 1 'context of 64'
run eval "$model" --text "$work/text" --window 257
check "a window above the model's context" is_one_line 1 'context of 256'

# ---- short texts ----

# All that a text of N tokens scores: the tokens behind position N/2.
for length in 4 5 6 9; do
	head -c $length <<<'q,z;x:w.v' >"$work/short"
	n=$(($("${unpu[@]}" tokenize "$model" -f "$work/short" | wc -w) + 1))
	[ $n -ge 4 ] || fail "$length bytes are 3 tokens or more" $((n - 1))
	run eval "$model" --text "$work/short"
	check "a text of $n tokens is said to be short" is_one_line 0 \
		"$n tokens, less than a window"
	check "a text of $n tokens is one window" grep -qF \
		", $((n - 1 - n / 2)) tokens scored in 1 windows" "$work/out"
done
for text in '' 'q'; do
	printf '%s' "$text" >"$work/short"
	run eval "$model" --text "$work/short"
	check "'$text' is too short" is_one_line 1 'too few'
	check "'$text' has no result" [ ! -s "$work/out" ]
done
run eval "$model" --text "$work"
check '--text is a folder' is_one_line 1 "$work"
head -c 3000 /dev/urandom >"$work/bytes"
run eval "$model" --text "$work/bytes" --window 32
check 'any bytes are a text' is_quiet

# ---- the value ----

have_python 'perplexity against an independent computation' numpy || finish
# $1: what, $2: the model, $3: the window, the rest: arguments. Compares with the reference.
is_right() {
	local what=$1 begin reference
	run tokenize "$2" -f "$work/text"
	cp "$work/out" "$work/ids"
	run tokenize "$2" -p '' --special
	begin=$(cat "$work/out")
	reference=$(echo "$begin $(cat "$work/ids")" |
		"$python" "$root/tests/tools/perplexity.py" "$2" "$3" ${begin:+"$begin"})
	run eval "$2" --text "$work/text" --window "$3" --json "${@:4}"
	check "$what" is_quiet
	check "$what: the value" "$python" -c '
import json, sys
r, (value, error, scored, windows) = json.load(open(sys.argv[1])), sys.argv[2].split()
assert abs(r["perplexity"] / float(value) - 1) < 1e-4, (r, value)
assert abs(r["error"] / float(error) - 1) < 1e-3, (r, error)
assert r["tokens"] == int(scored) and r["windows"] == int(windows), (r, scored, windows)
assert r["window"] == int(sys.argv[3]), r
' "$work/out" "$reference" "$3"
}
for arch in 'llama f32 context=256' 'qwen2 f32 context=256' \
	'qwen2 f32 context=256 tokenizer=bpe' \
	'llama f32 context=256 heads=6 kv_heads=2 hidden=96 seed=7'; do
	# shellcheck disable=SC2086
	make_tiny $arch
	for window in 4 5 33 64 256; do
		is_right "$arch, window $window" "$tiny" $window --kv f32
	done
	is_right "$arch, f16" "$tiny" 64
done
run eval "$model" --text "$work/text" --window 64 --json
check '--json holds all of it' "$python" -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert set(r) == {"perplexity", "error", "tokens", "windows", "window", "model", "text", "kv",
                  "device_name"}, r
assert r["model"] == sys.argv[2] and r["kv"] == "f16", r
' "$work/out" "$model"
finish
