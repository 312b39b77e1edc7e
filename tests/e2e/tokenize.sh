#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu tokenize and detokenize: where the text comes from, and that nothing gets lost on the way.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

for kind in 'llama f32 tokenizer=spm' 'llama f32 tokenizer=bpe' 'gpt2 f32'; do
	# shellcheck disable=SC2086
	make_tiny $kind
	model=$tiny
	name=${kind##*=}

	run tokenize "$model" -p 'Hello world'
	check "$name: tokenize -p" is_quiet
	check "$name: ids on one line" grep -qE '^[0-9]+( [0-9]+)*$' "$work/out"
	same "$name: one line" 1 "$(wc -l <"$work/out")"
	cp "$work/out" "$work/ids"
	printf 'Hello world' >"$work/text"
	run tokenize "$model" -f "$work/text"
	check "$name: -f as -p" cmp "$work/ids" "$work/out"
	"${unpu[@]}" tokenize "$model" <"$work/text" >"$work/out" 2>"$work/err"
	check "$name: stdin as -p" cmp "$work/ids" "$work/out"
	run tokenize "$model" -p ''
	check "$name: no text" is_quiet
	same "$name: no text has no ids" '' "$(cat "$work/out")"
	same "$name: no text has an empty line" 1 "$(wc -l <"$work/out")"
	run tokenize "$model" -p 'Hello world' --special
	check "$name: --special" is_quiet
	check "$name: --special ends with the ids of the text" \
		eval '[[ " $(cat "$work/out") " == *" $(cat "$work/ids") "* ]]'
	for text in '<s>' '</s>' '<|endoftext|>'; do
		run tokenize "$model" -p "$text"
		check "$name: '$text' without --special is text" \
			eval '! grep -qE "^[0-9]+$" "$work/out"'
	done

	run detokenize "$model"
	check "$name: no ids, no text" is_quiet
	same "$name: no ids, no bytes" 0 "$(stat -c %s "$work/out")"
	# shellcheck disable=SC2046
	run detokenize "$model" $(cat "$work/ids")
	check "$name: detokenize" is_quiet
	check "$name: detokenize gives the bytes and no newline" cmp "$work/text" "$work/out"
	run detokenize "$model" "$(tr ' ' ',' <"$work/ids")"
	check "$name: ids in one argument" cmp "$work/text" "$work/out"
	"${unpu[@]}" detokenize "$model" <"$work/ids" >"$work/out" 2>"$work/err"
	check "$name: ids on stdin" cmp "$work/text" "$work/out"
	echo '1 x' | "${unpu[@]}" detokenize "$model" >"$work/out" 2>"$work/err"
	status=$?
	check "$name: a wrong id on stdin" is_one_line 1 "'x'"
	printf '1 \0 2' | "${unpu[@]}" detokenize "$model" >"$work/out" 2>"$work/err"
	status=$?
	check "$name: a NUL on stdin" is_one_line 1

	# Texts and back. All bytes but NUL in one, then what shells and line tools like to change.
	# shellcheck disable=SC2059
	printf "$(printf '\\x%x' {1..255})" >"$work/text-bytes"
	printf 'a\0b\0\0' >"$work/text-nul"
	printf 'line\n' >"$work/text-newline"
	printf '\n\n\n' >"$work/text-newlines"
	printf 'dos\r\n\r' >"$work/text-dos"
	printf '\t x  y   z \t' >"$work/text-blanks"
	printf '\xe2\x96\x81 \xe2\x96\x81\xe2\x96\x81' >"$work/text-underline"
	printf 'gr\xc3\xbc\xc3\x9fe \xd0\xbf\xd1\x80\xd0\xb8 \xe4\xbd\xa0 \xf0\x9f\xa6\x99' \
		>"$work/text-utf8"
	printf '\xc3\x28 \xa0\xa1 \xe2\x28\xa1 \xf0\x28\x8c\xbc \xed\xa0\x80 \xc3' \
		>"$work/text-broken"
	head -c 20000 /dev/zero | tr '\0' a >"$work/text-letters"
	head -c 20000 /dev/zero | tr '\0' ' ' >"$work/text-spaces"
	head -c 20000 "$model" >"$work/text-model"
	for text in "$work"/text-*; do
		what="$name: ${text##*/}"
		"${unpu[@]}" tokenize "$model" <"$text" >"$work/out" 2>"$work/err"
		status=$?
		check "$what: tokenize" is_quiet
		"${unpu[@]}" detokenize "$model" <"$work/out" >"$work/back" 2>"$work/err"
		status=$?
		check "$what: detokenize" is_quiet
		# SentencePiece cannot tell U+2581 from a blank.
		if [ "$name" = spm ]; then
			check "$what: comes back, U+2581 as blanks" \
				cmp <(LC_ALL=C sed 's/\xe2\x96\x81/ /g' "$text") "$work/back"
		else
			check "$what: comes back" cmp "$text" "$work/back"
		fi
	done

	"${unpu[@]}" tokenize "$model" <&- >"$work/out" 2>"$work/err"
	status=$?
	check "$name: stdin closed" is_one_line 1 'standard input'
	"${unpu[@]}" detokenize "$model" <&- >"$work/out" 2>"$work/err"
	status=$?
	check "$name: detokenize, stdin closed" is_one_line 1 'standard input'
	"${unpu[@]}" tokenize "$model" -p 'Hello' >/dev/full 2>"$work/err" </dev/null
	status=$?
	check "$name: tokenize to a full disk" is_one_line 1 'No space left'
	"${unpu[@]}" tokenize "$model" -f "$work/text-letters" 2>"$work/err" </dev/null |
		head -c 1 >/dev/null
	status=${PIPESTATUS[0]}
	check "$name: tokenize into a broken pipe" is_quiet
	# shellcheck disable=SC2046
	"${unpu[@]}" detokenize "$model" $(cat "$work/ids") >/dev/full 2>"$work/err" </dev/null
	status=$?
	check "$name: detokenize to a full disk" is_one_line 1 'No space left'
done
finish
