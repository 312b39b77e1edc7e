#!/bin/bash
# SPDX-License-Identifier: MIT
# Real tokenizers against the ids that llama.cpp gives, every text through stdin; and files that
# hold only a tokenizer.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

# Splits $1 into $work/texts/N, byte for byte.
split_texts() {
	rm -rf "$work/texts"
	mkdir "$work/texts"
	"$python" -c '
import sys
texts = open(sys.argv[1], "rb").read().split(b"\n__ggml_vocab_test__\n")
# The separator may end the file: then no line of ids stands for the nothing behind it.
lines = open(sys.argv[1][:-3] + "out", "rb").read().count(b"\n")
if len(texts) == lines + 1 and not texts[-1]:
    texts.pop()
for i, text in enumerate(texts):
    open("%s/%03d" % (sys.argv[2], i), "wb").write(text)
' "$1" "$work/texts"
}

# Every text of $1.inp through the command, one in five where it is slow; says which first has other
# ids than in $1.out.
all_texts() {
	local text number=0 step=${slow:+5} want got
	while read -r want; do
		text=$(printf '%s/texts/%03d' "$work" "$number")
		if [ $((number % ${step:-1})) = 0 ]; then
			got=$("${unpu[@]}" tokenize "$1" <"$text" 2>&1)
			if [ "$got" != "$want" ]; then
				echo "text $number ($(head -c 40 "$text")): wanted $want, got $got"
				return 1
			fi
		fi
		number=$((number + 1))
	done <"$1.out"
	[ "$number" = "$(find "$work/texts" -type f | wc -l)" ] && [ "$number" -gt 10 ] && return
	echo "$number lines of ids for $(find "$work/texts" -type f | wc -l) texts"
	return 1
}

for name in deepseek-llm gpt-2 llama-spm smollm2 starcoder; do
	file=ggml-vocab-$name.gguf
	have_shared "vocabs/$file" "tokenizer $name" || continue
	have_python "tokenizer $name" || continue
	vocab=$shared/vocabs/$file
	split_texts "$vocab.inp"
	check "$name: the ids of all texts" all_texts "$vocab"
	cat "$work"/texts/* >"$work/all"
	"${unpu[@]}" tokenize "$vocab" <"$work/all" >"$work/ids" 2>"$work/err"
	status=$?
	check "$name: all texts at once" is_quiet
	"${unpu[@]}" detokenize "$vocab" <"$work/ids" >"$work/back" 2>"$work/err"
	check "$name: all texts come back" cmp "$work/all" "$work/back"
	run info "$vocab"
	check "$name: info of a tokenizer" is_quiet
	run run "$vocab" -p a
	check "$name: run needs more than a tokenizer" is_one_line 1
	run bench "$vocab"
	check "$name: bench needs more than a tokenizer" is_one_line 1
done
if have_shared vocabs/ggml-vocab-bert-bge.gguf 'tokenizer bert-bge'; then
	run tokenize "$shared/vocabs/ggml-vocab-bert-bge.gguf" -p a
	check 'bert-bge is refused and named' is_one_line 1 bert
	skip 'the ids of bert-bge' 'WordPiece is not built yet'
fi
finish
