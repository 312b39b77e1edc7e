#!/bin/bash
# SPDX-License-Identifier: MIT
# What weight types, classes and types of the KV cache cost in quality: makes the models and the
# text and writes tables to stdout. tests/bench/quality.sh [MODEL]
# MODEL: a llama model of F32 tensors; default: ../shared/models/aidreams260k.gguf. Environment:
# UNPU (build/unpu), TEXTS (80), WINDOW (128), THREADS (2).
set -eu

here=$(dirname "$0")
unpu=${UNPU:-$here/../../build/unpu}
model=${1:-$here/../../../shared/models/aidreams260k.gguf}
texts=${TEXTS:-80} window=${WINDOW:-128} threads=${THREADS:-2}
types='F32 F16 BF16 Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 IQ4_NL'

skip() { echo "quality: skipped: $1" >&2; exit 77; }
[ -x "$unpu" ] || { echo "quality.sh: no $unpu; run make" >&2; exit 2; }
[ -r "$model" ] || skip "no $model"
python=
for p in /usr/bin/python3 python3; do
	"$p" -c 'import numpy' 2>/dev/null && python=$p && break
done
[ -n "$python" ] || skip 'no python3-numpy'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quiet() { "$@" 2>"$work/err" || { cat "$work/err" >&2; exit 1; }; }
field() { sed -n "s/^.*\"$1\": *\([-+.0-9e]*\).*/\1/p" "$2"; }

# ---- a text and the models ----

write_text() {
	for seed in $(seq "$texts"); do
		quiet "$unpu" run "$model" -p 'Once' -n 200 --temp 1 --top-k 0 --top-p 1 --min-p 0 \
			--seed "$seed" -t 1
		echo
	done >"$work/text"
}

eval_text() { # file, the rest: options
	local file=$1
	shift
	quiet "$unpu" eval "$file" --text "$work/text" --window "$window" -t "$threads" "$@"
}

# ---- the tables ----

row() { # type, class, KV, file, base
	local class=
	[ "$2" = a8 ] || class=--class-f32
	eval_text "$4" $class --kv "$3" --against "$5" --json >"$work/row"
	printf '| %s | %s | %s | %.4f | %+.2f | %.6f | %.6f | %.2f |\n' "$1" "$2" "$3" \
		"$(field perplexity "$work/row")" \
		"$(awk "BEGIN { print 100 * ($(field perplexity "$work/row") / $original - 1) }")" \
		"$(field divergence "$work/row")" "$(field divergence_error "$work/row")" \
		"$(awk "BEGIN { print 100 * $(field same_first "$work/row") }")"
}

table() { # a file of F32 tensors
	local type class classes kv
	eval_text "$1" --class-f32 --kv f32 --logits "$work/base" --json >"$work/first"
	original=$(field perplexity "$work/first")
	echo '| weights | class | KV | perplexity | change, % | divergence | +- | same first, % |'
	echo '| --- | --- | --- | --- | --- | --- | --- | --- |'
	for type in $types; do
		"$python" "$here/quality.py" quantise "$type" "$1" "$work/typed"
		classes='f32 a8'
		case $type in F32|F16|BF16) classes=f32 ;; esac
		for class in $classes; do
			for kv in f32 f16 int8; do
				row "$type" "$class" "$kv" "$work/typed" "$work/base"
			done
		done
	done
}

write_text
"$python" "$here/quality.py" widen "$model" "$work/wide"
eval_text "$model" --class-f32 --kv f32 --json >"$work/plain"
eval_text "$work/wide" --class-f32 --kv f32 --json >"$work/widened"
echo "Perplexity of the model as it is $(field perplexity "$work/plain"), widened" \
	"$(field perplexity "$work/widened") (+- $(field error "$work/plain")," \
	"$(field tokens "$work/plain") tokens scored)."
awk "BEGIN { exit !(sqrt(($(field perplexity "$work/plain") / \
	$(field perplexity "$work/widened") - 1) ^ 2) < 1e-5) }" || {
	echo 'quality: the wide model is another one' >&2
	exit 1
}
echo
table "$work/wide"
echo
echo 'Random weights, hidden 768, ffn 1536, 4 layers, 12 heads of 64:'
echo
"$python" "$here/quality.py" random 7 "$model" "$work/random"
table "$work/random"
