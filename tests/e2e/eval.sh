#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu eval: files of logits, greedy ids, and that neither batch, threads, context nor the way there
# change a bit of them.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama f32 vocab=300 context=256
model=$tiny
ids='1 72 104 111 111 114 35 122'

# ---- files ----

run eval "$model" --tokens "$ids" --logits "$work/logits"
check 'eval --logits' is_quiet
same 'eval --logits says nothing on stdout' '' "$(cat "$work/out")"
same 'the logits: tokens x vocabulary x 4 bytes' $((8 * 300 * 4)) "$(stat -c %s "$work/logits")"
same 'no temporary file is left' "$work/logits" "$(echo "$work"/logits*)"
run eval "$model" --tokens "$ids" --greedy 5
check 'eval --greedy' is_quiet
same 'eval --greedy 5 writes one line' 1 "$(wc -l <"$work/out")"
check 'eval --greedy 5 writes 5 ids' grep -qE '^([0-9]+ ){4}[0-9]+$' "$work/out"
cp "$work/out" "$work/greedy"
run eval "$model" --tokens "$ids" --greedy 5 --logits "$work/both"
check 'eval --greedy --logits' is_quiet
check 'the ids are the same with --logits' cmp "$work/greedy" "$work/out"
check 'the logits are the same with --greedy' cmp "$work/logits" "$work/both"
for form in '1,72,104,111,111,114,35,122' ' 1  72 104 111 111 114 35 122 ' \
	$'1\n72\n104\t111 111 114 35 122\n' '01 072 104 111 111 114 35 122'; do
	run eval "$model" --tokens "$form" --greedy 5
	check "ids written as '$form'" cmp "$work/greedy" "$work/out"
done
echo old >"$work/old"
run eval "$model" --tokens "$ids" --logits "$work/old"
check 'an old file is replaced' cmp "$work/logits" "$work/old"
ln -s logits-of-link "$work/link"
echo x >"$work/logits-of-link"
run eval "$model" --tokens "$ids" --logits "$work/link"
check 'a link leads to the logits' cmp "$work/logits" "$work/link"
(cd "$work" && "${unpu[@]}" eval "$model" --tokens "$ids" --logits relative </dev/null)
check 'a relative file' cmp "$work/logits" "$work/relative"
mkfifo "$work/fifo"
"${unpu[@]}" eval "$model" --tokens "$ids" --logits "$work/fifo" </dev/null &
check 'logits into a pipe' cmp "$work/logits" "$work/fifo"
wait

run eval "$model" --tokens "$ids" --logits /dev/full
check 'logits on a full disk' is_one_line 1 /dev/full
check '/dev/full is a device still' [ -c /dev/full ]
run eval "$model" --tokens "$ids" --logits "$work"
check 'logits into a folder' is_one_line 1 "$work"
run eval "$model" --tokens "$ids" --logits "$work/no/such"
check 'logits into a folder that is not there' is_one_line 1 "$work/no/such"
echo old >"$work/kept"
run eval "$model" --tokens "$ids 300" --logits "$work/kept"
check 'an id outside the vocabulary' is_one_line 1 300
same 'after an error the old file stands' old "$(cat "$work/kept")"
same 'after an error no temporary file is left' "$work/kept" "$(echo "$work"/kept*)"
run eval "$model" --tokens "$ids" --greedy 300 -c 64
check 'more greedy ids than the context holds' is_one_line 1 full
same 'more greedy ids than the context holds: none is written' '' "$(cat "$work/out")"
mkdir "$work/locked"
chmod 555 "$work/locked"
chmod 711 "$work"
if as_nobody; then
	run eval "$model" --tokens "$ids" --logits "$work/locked/file"
	check 'logits into a folder without permission' is_one_line 1 locked/file
	as_before
else
	skip 'logits into a folder without permission' 'root may, and nobody cannot run this'
fi

# The next id is where the last logits are highest.
if have_python 'greedy ids against logits' numpy; then
	check 'the first greedy id is the argmax of the last logits' "$python" -c '
import sys, numpy
logits = numpy.fromfile(sys.argv[1], "<f4").reshape(8, 300)
assert numpy.isfinite(logits).all()
assert logits[-1].argmax() == int(open(sys.argv[2]).read().split()[0])
' "$work/logits" "$work/greedy"
fi
run eval "$model" --tokens "$ids $(cut -d ' ' -f 1-4 "$work/greedy")" --greedy 1
same 'greedy ids go on where they were cut' "$(cut -d ' ' -f 5 "$work/greedy")" \
	"$(cat "$work/out")"

# ---- purity ----

prompt=$(for i in {0..39}; do echo $((i * i * 7 % 300)); done)

# $1: what, the rest: arguments. Compares logits and greedy ids with those of $work/pure.
is_pure() {
	local what=$1
	shift
	run eval "$tiny" --tokens "$prompt" --logits "$work/logits" --greedy 8 "$@"
	check "$what" is_quiet
	check "$what: equal logits" cmp "$work/pure" "$work/logits"
	check "$what: equal ids" cmp "$work/pure.ids" "$work/out"
}

for_masks=$(masks)
same 'an instruction set is named by devices' c "$(head -n 1 <<<"$for_masks")"
batches='1 3 7 32' counts='1 2 3 7'
if [ -n "$slow" ]; then
	for_masks=$(tail -n 1 <<<"$for_masks") batches='1 7' counts='1 3'
fi
for mask in $for_masks; do
	export UNPU_CPUMASK=$mask
	for type in f32 f16 bf16 q8_0 q4_0; do
		make_tiny llama $type vocab=300 context=256
		run eval "$tiny" --tokens "$prompt" --logits "$work/pure" --greedy 8 -t 1
		check "$mask $type" is_quiet
		cp "$work/out" "$work/pure.ids"
		for batch in $batches; do
			for threads in $counts; do
				is_pure "$mask $type --batch $batch -t $threads" \
					--batch $batch -t $threads
			done
		done
		is_pure "$mask $type -c 64" -c 64
		is_pure "$mask $type -c 200" -c 200 -t 2
	done
	for model in 'qwen2 q8_0' 'qwen3 f16' 'gpt2 q4_0' \
		'llama q4_0 hidden=72 ffn=172 heads=3 kv_heads=1 head_dim=24' \
		'llama f32 hidden=40 ffn=100 heads=5 kv_heads=5 head_dim=8'; do
		# shellcheck disable=SC2086
		make_tiny $model vocab=300 context=256
		for kv in f16 f32; do
			run eval "$tiny" --tokens "$prompt" --logits "$work/pure" --greedy 8 \
				-t 1 --kv $kv
			check "$mask $model --kv $kv" is_quiet
			cp "$work/out" "$work/pure.ids"
			is_pure "$mask $model --kv $kv --batch 1" --batch 1 -t 2 --kv $kv
			is_pure "$mask $model --kv $kv --batch 7" --batch 7 -t 3 --kv $kv
		done
	done
done
unset UNPU_CPUMASK

# The command asks for the logits of 2^24 / vocabulary positions at once: here of 83, then of all.
if [ -n "$slow" ]; then
	skip 'logits in several calls' 'too slow here'
else
	make_tiny llama q8_0 hidden=32 vocab=200000 context=128
	prompt=$(seq 1000 2000 180000)
	run eval "$tiny" --tokens "$prompt" --greedy 8 --logits "$work/pure" --batch 128
	check 'logits of all positions in one call' is_quiet
	same 'logits of all positions in one call: their size' $((90 * 200000 * 4)) \
		"$(stat -c %s "$work/pure")"
	cp "$work/out" "$work/pure.ids"
	is_pure 'logits in several calls'
	is_pure 'logits in several calls, --batch 7' --batch 7
fi
finish
