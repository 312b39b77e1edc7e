#!/bin/bash
# SPDX-License-Identifier: MIT
# Files that are no models: every command says so in one line.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q8_0
model=$tiny

# $1: a file, $2: what the line must name.
refused() {
	local what=${1#"$work"/}
	run run "$1" -p a
	check "run $what" is_one_line 1 "$2"
	check "run $what: nothing on stdout" [ ! -s "$work/out" ]
	run eval "$1" --tokens 1 --greedy 1
	check "eval $what" is_one_line 1 "$2"
	run bench "$1" -r 1
	check "bench $what" is_one_line 1 "$2"
	run info "$1"
	check "info $what" is_one_line 1 "$2"
	run tokenize "$1" -p a
	check "tokenize $what" is_one_line 1 "$2"
	run detokenize "$1" 1
	check "detokenize $what" is_one_line 1 "$2"
}

refused "$work/missing.gguf" missing.gguf
refused '' ''
refused "$work" "$work"
: >"$work/empty.gguf"
refused "$work/empty.gguf" empty
mkfifo "$work/fifo.gguf"
refused "$work/fifo.gguf" fifo.gguf
refused /dev/null /dev/null
refused /dev/zero /dev/zero
refused "$model/below" "$model/below"
ln -s loop "$work/loop"
refused "$work/loop" loop
refused "$work/$(printf 'x%.0s' {1..300})" 'long'
refused "$work/"$'new\nline\e[31m' new
refused "$work/"$'latin \xe9' 'latin \xE9'
cp "$model" "$work/forbidden.gguf"
chmod 000 "$work/forbidden.gguf"
chmod 711 "$work"
if as_nobody; then
	refused "$work/forbidden.gguf" 'forbidden.gguf: Permission denied'
	as_before
else
	skip 'a file without permission' 'root may read everything, and nobody cannot run this'
fi

printf 'G' >"$work/one-byte.gguf"
printf 'GGUF' >"$work/magic.gguf"
head -c 24 "$model" >"$work/header.gguf"
printf 'hello, this is a text and no model at all\n' >"$work/text.gguf"
head -c 4096 /dev/urandom | sed 's/^/x/' >"$work/random.gguf"
head -c 1000000 /dev/zero >"$work/zeros.gguf"
{ printf 'GGUF\1\0\0\0'; tail -c +9 "$model"; } >"$work/version1.gguf"
{ printf 'GGUF\0\0\0\3'; tail -c +9 "$model"; } >"$work/big-endian.gguf"
{ printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\377'; tail -c +17 "$model"; } \
	>"$work/counts.gguf"
for file in one-byte text random zeros; do
	refused "$work/$file.gguf" "$file.gguf: the file is not a GGUF file"
done
for file in magic header version1 big-endian counts; do
	refused "$work/$file.gguf" "$file.gguf: "
done
size=$(stat -c %s "$model")
for part in 1 2 3 5 8; do
	head -c $((size * part / 10)) "$model" >"$work/first-$part-tenths.gguf"
	run run "$work/first-$part-tenths.gguf" -p a
	check "run of the first $part tenths of a model" is_one_line 1
done
# The last tensor may be followed by padding to 32 bytes, which nobody reads.
head -c $((size - 32)) "$model" >"$work/short.gguf"
run run "$work/short.gguf" -p a
check 'run of a model without its last bytes' is_one_line 1

# $1: file, $2: what is in it, $3: as many bytes instead.
patched() {
	LC_ALL=C sed "s/$2/$3/" "$model" >"$work/$1"
	! cmp -s "$model" "$work/$1" || fail "$1 differs" "no $2 in the model"
}
patched arch.gguf 'general.architecture\(.\{12\}\)llama' 'general.architecture\1nosuc'
run run "$work/arch.gguf" -p a
check 'an unknown architecture is named' is_one_line 1 nosuc
for known in llama qwen2 qwen3 gpt2; do
	check "the line of an unknown architecture lists $known" grep -q $known "$work/err"
done
patched tensor.gguf 'blk\.0\.ffn_down\.weight' 'blk.0.ffn_dawn.weight'
run run "$work/tensor.gguf" -p a
check 'a missing tensor is named' is_one_line 1 blk.0.ffn_down.weight
patched evil.gguf 'blk\.0\.ffn_down\.weight' 'blk\x1b[0\nffn_dow\xff.weight'
run info "$work/evil.gguf" --tensors
check 'a name with control characters moves no cursor' \
	eval '! LC_ALL=C grep -q "[^[:print:][:space:]]" "$work/out" "$work/err"'
if have_python 'JSON of a hostile name'; then
	run info "$model" --tensors --json
	check 'info --json of a model' "$python" -m json.tool "$work/out" /dev/null
	patched name.gguf 'output_norm\.weight' 'output"n\\rm\xff\x01eight'
	run info "$work/name.gguf" --tensors --json
	[ "$status" != 0 ] ||
		check 'JSON of a hostile name' "$python" -m json.tool "$work/out" /dev/null
fi
finish
