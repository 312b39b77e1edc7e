#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu pack, --packed and --cache: the same text, and nothing lost where the file is not what it
# should be.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q4_0
model=$tiny
text=(-d cpu -p 'Hello world' -n 12 --temp 0)
run run "$model" "${text[@]}"
cp "$work/out" "$work/want"

same_text() { # $1: what it was done with
	check "$1: nothing is said" is_quiet
	check "$1: the same text" cmp "$work/want" "$work/out"
}

# $1: what is wrong, $2: a word of the line
passed_over() {
	check "$1 is passed over with a line" is_one_line 0 "$2"
	check "$1: the same text" cmp "$work/want" "$work/out"
}

no_rest() { # of temporary files, in folder $1
	[ -z "$(find "$1" -name '*.tmp')" ]
}

# ---- unpu pack ----

run pack "$model" -o "$work/packed"
check 'pack says nothing' is_quiet
same 'pack writes nothing to stdout' 0 "$(wc -c <"$work/out")"
check 'no temporary file is left' no_rest "$work"
for threads in 1 3; do
	run run "$model" "${text[@]}" -t $threads --packed "$work/packed"
	same_text "--packed, -t $threads"
done
run run "$model" "${text[@]}" --packed "$work/packed" --no-sandbox
same_text '--packed --no-sandbox'
"${unpu[@]}" run "$model" "${text[@]}" \
	--packed <("${unpu[@]}" pack "$model" -o /dev/stdout 2>/dev/null) >"$work/out" 2>"$work/err"
status=$?
passed_over 'a pipe' 'is no file of packed weights'
cp "$model" "$work/copy.gguf"
run run "$work/copy.gguf" "${text[@]}" --packed "$work/packed"
same_text 'a copy of the model'
run eval "$model" --tokens '1 5 9' --greedy 4 --packed "$work/packed"
check 'eval --packed' is_quiet

run pack "$model"
check 'pack without a file' is_one_line 2 '-o FILE'
run pack "$model" -o "$work/none/packed"
check 'pack to a folder that is not there' is_one_line 1 'none/packed'
run pack "$work/none.gguf" -o "$work/other"
check 'pack of no file' is_one_line 1 'none.gguf'
check 'leaves none' [ ! -e "$work/other" ]
cp "$model" "$work/same.gguf"
ln -s same.gguf "$work/link.gguf"
for name in same.gguf ./same.gguf link.gguf; do
	run pack "$work/same.gguf" -o "$work/$name"
	check "pack of a model onto itself, $name" is_one_line 1 'is the model itself'
	check "$name is what it was" cmp "$model" "$work/same.gguf"
done
run pack "$model" -o /dev/full
check 'pack to a full disk' is_one_line 1 'No space left'
run run "$model" "${text[@]}" --packed "$work/none"
check 'a packed file that is not there' is_one_line 1 "$work/none"

# ---- for other machines ----

run pack "$model" -o "$work/other" --for sse2
check 'pack for no instruction set' is_one_line 1 'no instruction set'
check 'leaves none either' [ ! -e "$work/other" ]
mapfile -t here_masks < <(masks)
for mask in c avx2 avx512vnni neon neon_dotprod; do
	run pack "$model" -o "$work/for.$mask" --for $mask
	check "pack --for $mask" is_quiet
done
for mask in "${here_masks[@]}"; do
	UNPU_CPUMASK=$mask run pack "$model" -o "$work/own"
	check "pack --for $mask is what a machine with it packs" cmp "$work/for.$mask" "$work/own"
	UNPU_CPUMASK=$mask run run "$model" "${text[@]}" --packed "$work/for.$mask"
	check "with $mask: --packed takes it" is_quiet
	# A binary of another architecture, where this one is emulated.
	[ -n "${UNPU_HOST:-}" ] || continue
	check "pack --for $mask on the host" \
		"$UNPU_HOST" pack "$model" -o "$work/host" --for "$mask" -t 1
	check "pack --for $mask: the host's is the same" cmp "$work/host" "$work/own"
done
other=neon
[[ " ${here_masks[*]} " == *" neon "* ]] && other=avx2
run run "$model" "${text[@]}" --packed "$work/for.$other"
passed_over "a file for $other" "is packed for $other, which is not"

# ---- files that are not the model's ----

make_tiny qwen2 q8_0
run run "$tiny" "${text[@]}" --packed "$work/packed"
check 'what was packed of another model is passed over' is_one_line 0 'another model'
: >"$work/empty"
run run "$model" "${text[@]}" --packed "$work/empty"
passed_over 'an empty file' 'is no file of packed weights'
run run "$model" "${text[@]}" --packed "$model"
passed_over 'the model itself' 'is no file of packed weights'
head -c -1 "$work/packed" >"$work/short"
run run "$model" "${text[@]}" --packed "$work/short"
passed_over 'a short file' 'is cut short'

# ---- --cache ----

export XDG_CACHE_HOME=$work/caches
run run "$model" "${text[@]}" --cache
same_text 'the first --cache'
same 'there is one file then' 1 "$(find "$work/caches/unpu" -name 'packed.*' | wc -l)"
check 'no temporary file is left there' no_rest "$work/caches"
before=$(find "$work/caches/unpu" -name 'packed.*' -printf '%i %T@\n')
run run "$model" "${text[@]}" --cache
same_text 'the second --cache'
same 'the file was left as it is' "$before" \
	"$(find "$work/caches/unpu" -name 'packed.*' -printf '%i %T@\n')"
run run "$work/copy.gguf" "${text[@]}" --cache
same_text 'another file has another cache'
same 'there are two files then' 2 "$(find "$work/caches/unpu" -name 'packed.*' | wc -l)"
# Written over with everything kept that can be: size, times, inode.
cp -p "$work/copy.gguf" "$work/times"
mktiny_again=$("$mktiny" llama q4_0 "$work/again.gguf" seed=99 2>&1) || echo "$mktiny_again"
if [ "$(wc -c <"$work/again.gguf")" = "$(wc -c <"$work/copy.gguf")" ]; then
	dd if="$work/again.gguf" of="$work/copy.gguf" conv=notrunc status=none
	touch -r "$work/times" "$work/copy.gguf"
	run run "$work/copy.gguf" "${text[@]}"
	cp "$work/out" "$work/now"
	run run "$work/copy.gguf" "${text[@]}" --cache
	check 'a model that was written over: its own text' cmp "$work/now" "$work/out"
fi
rm "$work"/caches/unpu/packed.*

# ---- caches that do not fit ----

run run "$model" "${text[@]}" --cache
cached=$(find "$work/caches/unpu" -name 'packed.*')
cp "$cached" "$work/good"

# $1: what is wrong with $cached, $2: a word of the line. The next run takes what this one made.
replaced() {
	run run "$model" "${text[@]}" --cache
	check "a cache that $1 is replaced with a line" is_one_line 0 "$2"
	check "a cache that $1: the same text" cmp "$work/want" "$work/out"
	check "a cache that $1: the new one" cmp "$work/good" "$cached"
	check "a cache that $1: no temporary file" no_rest "$work/caches"
	run run "$model" "${text[@]}" --cache
	same_text "after a cache that $1"
}
: >"$cached"
replaced 'is empty' 'is no file of packed weights: another one took its place'
head -c 3000 "$work/good" >"$cached"
replaced 'is cut short' 'is cut short: another'
printf x | dd of="$cached" bs=1 seek=100 conv=notrunc status=none
replaced 'is damaged' 'is damaged: another'
printf x | dd of="$cached" bs=1 seek=9 conv=notrunc status=none
replaced 'is of another version' 'is of another version of unpu: another'
if [ ${#here_masks[@]} -gt 1 ]; then
	UNPU_CPUMASK=c run run "$model" "${text[@]}" --cache
	check 'a cache of another instruction set is replaced' \
		is_one_line 0 'which is not c: another'
	replaced 'is for plain C' 'is packed for c, which is not'
fi
# Only its times have changed: it is what it was, and said so from now on.
before=$(stat -c %i "$cached")
chmod 600 "$model"
run run "$model" "${text[@]}" --cache
same_text 'a model with other times'
check 'its cache has learnt them' [ "$before" != "$(stat -c %i "$cached")" ]
cp "$cached" "$work/good"
run run "$model" "${text[@]}" --cache
same_text 'a model with other times, again'
check 'now it is left as it is' cmp "$work/good" "$cached"

# Where nothing can be written: a line, and the text.
ln -sf /dev/full "$cached"
run run "$model" "${text[@]}" --cache
passed_over 'a full disk' 'No space left'
rm "$cached"
mkfifo "$cached"
timeout 60 "${unpu[@]}" run "$model" "${text[@]}" --cache >"$work/out" 2>"$work/err"
status=$?
passed_over 'a pipe that nobody reads' 'is a pipe'
rm "$cached"
(ulimit -f 100 && run run "$model" "${text[@]}" --cache && echo "$status" >"$work/status")
status=$(cat "$work/status")
passed_over 'a disk that becomes full' 'too large'
check 'nothing is left of it' [ -z "$(find "$work/caches/unpu" -name 'packed*')" ]
if as_nobody; then
	chmod -R go+rX "$work"
	chmod 755 "$work/caches" "$work/caches/unpu"
	[ "$(id -u)" = 0 ] || chmod a-w "$work/caches/unpu"
	run run "$model" "${text[@]}" --cache
	passed_over 'a folder that cannot be written to' 'Permission denied'
	chmod u+w "$work/caches/unpu"
	as_before
else
	skip 'a cache in a folder that cannot be written to' 'no user whom permissions bind'
fi

# Several at once: each runs, and one file is there in the end.
for i in 1 2 3; do
	"${unpu[@]}" run "$model" "${text[@]}" --cache >"$work/out.$i" 2>"$work/err.$i" </dev/null &
done
wait
for i in 1 2 3; do
	check "three at once, $i: the same text" cmp "$work/want" "$work/out.$i"
	same "three at once, $i: nothing is said" '' "$(cat "$work/err.$i")"
done
run pack "$model" -o "$work/good"
check 'three at once: one file' cmp "$work/good" "$(find "$work/caches/unpu" -name 'packed*')"
rm "$work"/caches/unpu/packed.*
head -c 2000 "$model" >"$work/cut.gguf"
run run "$work/cut.gguf" "${text[@]}" --cache
check 'a model that does not load leaves nothing' \
	[ -z "$(find "$work/caches" -name 'packed*')" ]
env -u HOME -u XDG_CACHE_HOME "${unpu[@]}" run "$model" "${text[@]}" --cache \
	>"$work/out" 2>"$work/err"
status=$?
passed_over 'no home' 'no cache'
: >"$work/file"
XDG_CACHE_HOME=$work/file run run "$model" "${text[@]}" --cache
passed_over 'a cache where none can be' 'no cache'
finish
