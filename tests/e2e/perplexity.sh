#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu eval --text: against an independent computation, and what it does with texts of any length.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama f32 context=256
model=$tiny
# Several windows; an emulator has the fewer, as each of some fifty runs reads them all.
size=1500
[ "${UNPU_EMULATED:-}" ] && size=500
head -c $size "$root/tests/e2e/eval.sh" | tr -c 'a-z .\n' ' ' >"$work/text"

run eval "$model" --text "$work/text" --window 64
check 'eval --text' is_quiet
same 'the result is one line' 1 "$(wc -l <"$work/out")"
check 'the result is named' grep -qE \
	'^perplexity [0-9.]+ \+- [0-9.]+, [0-9]+ tokens scored in [0-9]+ windows$' "$work/out"
cp "$work/out" "$work/result"
"${unpu[@]}" eval "$model" --text - --window 64 <"$work/text" >"$work/out" 2>"$work/err"
status=$?
check '--text - is stdin' cmp "$work/result" "$work/out"
for args in '-t 1' '-t 3' '-t auto' '-t 9 --clamp' '--batch 1' '--batch 7' '--batch 64' '-c 64' \
	'-c 200'; do
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
head -c $((2 * size)) /dev/urandom >"$work/bytes"
run eval "$model" --text "$work/bytes" --window 32
check 'any bytes are a text' is_quiet

# ---- against another ----

run eval "$model" --text "$work/text" --window 64 --logits "$work/base"
check '--logits with --text' is_quiet
check '--logits changes nothing' cmp "$work/result" "$work/out"
n=$(sed 's/.*, \([0-9]*\) tokens scored.*/\1/' "$work/result")
run eval "$model" --tokens 1 --logits "$work/one"
row=$(wc -c <"$work/one")
same 'it holds what was scored' $((n * row)) "$(wc -c <"$work/base")"
run eval "$model" --text "$work/text" --window 64 --against "$work/base"
check '--against' is_quiet
same 'a model is not apart from itself' \
	'divergence 0.000000 +- 0.000000, the same likeliest token in 100.00 %' \
	"$(sed -n 2p "$work/out")"
same 'the perplexity stays' "$(cat "$work/result")" "$(sed -n 1p "$work/out")"
"${unpu[@]}" eval "$model" --text "$work/text" --window 64 --against - <"$work/base" \
	>"$work/piped" 2>"$work/err"
status=$?
check '--against - is stdin' cmp "$work/out" "$work/piped"
run eval "$model" --text "$work/text" --window 32 --against "$work/base"
check '--against: another window' is_one_line 1 "$work/base holds"
head -c 1000 "$work/base" | "${unpu[@]}" eval "$model" --text "$work/text" --window 64 \
	--against - >"$work/out" 2>"$work/err"
status=$?
check '--against: a pipe that ends early' is_one_line 1 'ends before the text does'
run eval "$model" --text "$work/text" --against "$work/none"
check '--against: no such file' is_one_line 1 "$work/none"
run eval "$model" --tokens '1 2' --greedy 1 --against "$work/base"
check '--against without --text' is_one_line 2 '--against needs --text'
"${unpu[@]}" eval "$model" --text - --against - </dev/null >"$work/out" 2>"$work/err"
status=$?
check 'one stdin is not two files' is_one_line 2 stdin

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

# The same model with 4 bits, in both classes: the logits of both, compared by numpy.
make_tiny llama q4_0 context=256
for class in '' --class-f32; do
	# shellcheck disable=SC2086
	run eval "$tiny" --text "$work/text" --window 64 --logits "$work/logits" $class
	check "q4_0 $class" is_quiet
	# shellcheck disable=SC2086
	run eval "$tiny" --text "$work/text" --window 64 --against "$work/base" --json $class
	check "q4_0 $class --against" is_quiet
	check "q4_0 $class: the divergence" "$python" -c '
import json, sys
import numpy
r = json.load(open(sys.argv[1]))
p, q = (numpy.fromfile(f, "<f4").astype(float).reshape(-1, int(sys.argv[4]) // 4)
        for f in sys.argv[2:4])
lp, lq = (x - numpy.log(numpy.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) -
          x.max(1, keepdims=True) for x in (p, q))
kl = (numpy.exp(lp) * (lp - lq)).sum(1)
assert r["divergence"] > 0 and abs(r["divergence"] / kl.mean() - 1) < 1e-4, (r, kl.mean())
error = kl.std() / numpy.sqrt(len(kl) - 1)
assert abs(r["divergence_error"] / error - 1) < 1e-3, (r, error)
assert abs(r["same_first"] - (p.argmax(1) == q.argmax(1)).mean()) < 1e-6, r
' "$work/out" "$work/base" "$work/logits" "$row"
	mv "$work/logits" "$work/logits.${class:-a8}"
done
check '--class-f32 is another computation' eval '! cmp -s "$work"/logits.*'
finish
