#!/bin/bash
# SPDX-License-Identifier: MIT
# Command lines: help, version, JSON, and every wrong invocation.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama f32
model=$tiny

run --version
check '--version' is_quiet
same '--version says it' "unpu $(sed -n 's/^#define UNPU_VERSION_STRING.*"\(.*\)"/\1/p' \
	"$root/runtime/unpu.h")" "$(cat "$work/out")"

for help in --help -h; do
	run $help
	check "unpu $help" is_quiet
	check "unpu $help lists run" grep -qw run "$work/out"
done
commands='run eval tokenize detokenize bench info pack devices'
if grep -qw chat "$work/out"; then
	commands="$commands chat"
else
	skip 'help of chat' 'built without it'
fi
for command in $commands; do
	check "--help lists $command" grep -qw "$command" "$work/out"
done
for command in $commands; do
	for help in --help -h; do
		run "$command" $help
		check "$command $help" is_quiet
		same "$command $help says how" "Usage: unpu $command" \
			"$(head -n 1 "$work/out" | cut -d ' ' -f 1-3)"
	done
	run "$command" --help --nonsense
	check "$command --help comes first" is_quiet
done

# Each option that --help lists is taken, with its default as value.
for command in run eval bench; do
	run "$command" --help
	while read -r option; do
		run "$command" "$model" "$option"
		check "$command $option without a value" is_one_line 2 "$option"
	done < <(sed -n 's/^  \(-., \|    \)\(--[a-z0-9-]*\) [^ ].*/\2/p' "$work/out")
done

# Wrong: exit status, what the line must name, arguments. @ is the model.
while IFS='|' read -r want names args; do
	[ -n "$want" ] || continue
	eval "set -- ${args//@/\"\$model\"}"
	run "$@"
	check "unpu $args" is_one_line "$want" "$names"
	check "unpu $args: nothing on stdout" [ ! -s "$work/out" ]
done <<'END'
2|usage: unpu|
2|nonsense|nonsense
2|nonsense|nonsense --help
2|--nonsense|--nonsense
2|-x|-x
2|''|''
2|RUN|RUN @
2|MODEL is missing|run
2|MODEL is missing|eval --tokens 1 --greedy 1
2|MODEL is missing|tokenize
2|MODEL is missing|detokenize
2|MODEL is missing|bench
2|MODEL is missing|info
2|unexpected argument 'b'|run @ b
2|unexpected argument|run @ -p a b
2|unexpected argument|eval @ b
2|unexpected argument|tokenize @ b
2|unexpected argument|bench @ b
2|unexpected argument|info @ b
2|unexpected argument|devices b
2|unexpected argument '--stats'|run @ -p a -- --stats
2|--nonsense|run @ --nonsense
2|--nonsense|eval @ --nonsense
2|--nonsense|tokenize @ --nonsense
2|--nonsense|detokenize @ --nonsense
2|--nonsense|bench @ --nonsense
2|--nonsense|info @ --nonsense
2|--nonsense|devices --nonsense
2|--nonsense|run @ --nonsense=1
2|-z|run @ -z
2|-1|detokenize @ -1
2|--temper|run @ --temper 1
2|--t|run @ --t 1
2|-n|run @ -n
2|-n|run @ -p a -n
2|-n|run @ -p a -n ''
2|'x'|run @ -p a -n x
2|'5x'|run @ -p a -n 5x
2|'5x'|run @ -p a -n5x
2|' 5'|run @ -p a -n ' 5'
2|'5 '|run @ -p a -n '5 '
2|'+5'|run @ -p a -n +5
2|'-5'|run @ -p a -n -5
2|'0x5'|run @ -p a -n 0x5
2|'1e3'|run @ -p a -n 1e3
2|'1.5'|run @ -p a -n 1.5
2|from 0 to|run @ -p a -n 2147483648
2|from 0 to|run @ -p a -n 4294967296
2|from 0 to|run @ -p a -n 99999999999999999999999999
2|--count|run @ -p a --count=
2|-t|run @ -p a -t 0
2|auto or a whole number from 1 to|run @ -p a -t 1000
2|-t|run @ -p a -t -1
2|-t|run @ -p a -t two
2|-c|run @ -p a -c 0
2|-c|run @ -p a -c -1
2|-c|run @ -p a -c 12k
2|from 1 to|run @ -p a -c 99999999999
2|f16, f32 or int8|run @ -p a --kv f64
2|f16, f32 or int8|run @ -p a --kv ''
2|f16, f32 or int8|run @ -p a --kv F16
2|f16, f32 or int8|run @ -p a --kv=int4
2|--batch|run @ -p a --batch 0
2|--batch|run @ -p a --batch 1000000
2|--temp|run @ -p a --temp
2|--temp|run @ -p a --temp ''
2|from 0 to 100|run @ -p a --temp -0.1
2|from 0 to 100|run @ -p a --temp 101
2|'nan'|run @ -p a --temp nan
2|'inf'|run @ -p a --temp inf
2|'-inf'|run @ -p a --temp=-inf
2|'1e999'|run @ -p a --temp 1e999
2|'0x1p1'|run @ -p a --temp 0x1p1
2|'1,5'|run @ -p a --temp 1,5
2|'1e'|run @ -p a --temp 1e
2|'.'|run @ -p a --temp .
2|' 1'|run @ -p a --temp ' 1'
2|--top-p|run @ -p a --top-p 0
2|--top-p|run @ -p a --top-p 1.01
2|--top-p|run @ -p a --top-p NaN
2|--min-p|run @ -p a --min-p -0.1
2|--min-p|run @ -p a --min-p 2
2|--top-k|run @ -p a --top-k -1
2|--top-k|run @ -p a --top-k 1.0
2|--repeat-penalty|run @ -p a --repeat-penalty 0
2|--repeat-penalty|run @ -p a --repeat-penalty -1
2|--repeat-last-n|run @ -p a --repeat-last-n -1
2|--seed|run @ -p a --seed
2|--seed|run @ -p a --seed -1
2|--seed|run @ -p a --seed 18446744073709551616
2|--seed|run @ -p a --seed x
2|--stats takes no value|run @ -p a --stats=1
2|--no-echo takes no value|run @ -p a --no-echo=no
2|not from both|run @ -p a -f b
2|not from both|tokenize @ -p a -f b
2|--tokens IDS is missing|eval @
2|--tokens IDS is missing|eval @ --greedy 1
2|--logits FILE|eval @ --tokens 1
2|--tokens|eval @ --tokens '' --greedy 1
2|--tokens|eval @ --tokens ' ' --greedy 1
2|'a'|eval @ --tokens '1 a' --greedy 1
2|'-1'|eval @ --tokens '-1' --greedy 1
2|'1.5'|eval @ --tokens '1.5' --greedy 1
2|'1;2'|eval @ --tokens '1;2' --greedy 1
2|4294967296|eval @ --tokens 4294967296 --greedy 1
2|99999999999999999999|eval @ --tokens 99999999999999999999999 --greedy 1
2|--greedy|eval @ --tokens 1 --greedy 0
2|--greedy|eval @ --tokens 1 --greedy x
2|'x'|detokenize @ x
2|'1x'|detokenize @ 1 1x
2|'0x1'|detokenize @ 0x1
2|-p|bench @ -p 0
2|-p|bench @ -p text
2|-n|bench @ -n 0
2|-r|bench @ -r 0
2|-r|bench @ -r 1000000
2|--json takes no value|info @ --json=1
2|--tensors takes no value|info @ --tensors=
2|--stop|run @ -p a --stop
2|1 to 256 bytes|run @ -p a --stop ''
2|1 to 256 bytes|run @ -p a --stop=$(printf 'x%.0s' {1..257})
2|may be given 16 times|run @ -p a $(printf -- '--stop %s ' {1..17})
2|ID=X|run @ -p a --bias 5
2|ID=X|run @ -p a --bias =5
2|ID=X|run @ -p a --bias 5=
2|ID=X|run @ -p a --bias 5=101
2|ID=X|run @ -p a --bias 5=inf
2|ID=X|run @ -p a --bias 5=nan
2|ID=X|run @ -p a --bias -1=5
2|ID=X|run @ -p a --bias 4294967296=5
2|ID=X|run @ -p a --bias 99999999999999999999999999=5
2|ID=X|run @ -p a --bias 5=1x
2|may name 64 ids|run @ -p a $(printf -- '--bias %s=1 ' {1..65})
2|from -100 to 100|run @ -p a --frequency-penalty 101
2|from -100 to 100|run @ -p a --presence-penalty -101
2|--system needs --chat|run @ -p a --system b
2|--template needs --chat|run @ -p a --template chatml
2|not --tokens|run @ --chat --tokens 1
2|give one of them|run @ -p a --load x --prompt-cache y
2|not from both|run @ --load x -p a -f b
2|exclude each other|eval @ --text a --tokens 1
2|exclude each other|eval @ --text a --greedy 1
2|--window needs --text|eval @ --tokens 1 --greedy 1 --window 9
2|--json needs --text|eval @ --tokens 1 --greedy 1 --json
2|from 4 to|eval @ --text a --window 3
1|400000|run @ -p a --bias 400000=1
1|no/such|run @ -p a --load no/such
1|no/such|run @ -p a --save no/such/file
1|no/such|run @ -p a --prompt-cache no/such/file
1|no/such|eval @ --text no/such
1|no/such|run no/such -p a
1|no/such|eval no/such --tokens 1 --greedy 1
1|no/such|tokenize no/such -p a
1|no/such|detokenize no/such 1
1|no/such|bench no/such
1|no/such|info no/such
1|no/such|run @ -f no/such
1|no/such|tokenize @ -f no/such
1|directory|run @ -f .
1|directory|tokenize @ -f .
1|nodevice|run @ -p a -d nodevice
1|nodevice|eval @ --tokens 1 --greedy 1 -d nodevice
1|nodevice|bench @ -d nodevice
1||run @ -p a -d ''
1||run @ -p a -d vulkan:15
1||run @ -p a -d cpu:1
1|100000|run @ -p a -c 100000
1|100000|eval @ --tokens 1 --greedy 1 -c 100000
1||bench @ -c 100000
1|too small|bench @ -p 100000
1|too small|bench @ -p 40 -n 40 -c 64
1|400000|eval @ --tokens 400000 --greedy 1
1|4294967295|eval @ --tokens 4294967295 --greedy 1
1|400000|detokenize @ 400000
1|4294967295|detokenize @ 4294967295
1|no/such/file|eval @ --tokens 1 --logits no/such/file
1|full|eval @ --tokens '1 2 3' --greedy 4 -c 4
1|room|eval @ --tokens '1 2 3' --greedy 1 -c 2
END

UNPU_CPUMASK=nonsense run run "$model" -p a
check 'an unknown UNPU_CPUMASK' is_one_line 1 nonsense

# Options in every form, and the last one counts.
for args in '-n 2' '-n2' '--count 2' '--count=2' '-n 9 -n 2'; do
	# shellcheck disable=SC2086
	run run "$model" -p a --temp 0 $args
	check "run $args" is_quiet
	cp "$work/out" "$work/form-${args//[^0-9a-z]/_}"
	check "run $args is as run -n 2" cmp "$work/form-_n_2" "$work/out"
done
run run -p a -n 2 --temp 0 -- "$model"
check 'MODEL behind --' cmp "$work/form-_n_2" "$work/out"
run run -n 2 -p a --temp 0 "$model"
check 'MODEL behind options' cmp "$work/form-_n_2" "$work/out"
run run "$model" -p --stats -n 0
check 'a value may look like an option' is_quiet
same 'a value may look like an option: it is the text' '--stats' "$(cat "$work/out")"

for args in --help --version 'run --help' devices 'devices --json' "info $model" \
	"info $model --json --tensors" "tokenize $model -p a"; do
	# shellcheck disable=SC2086
	"${unpu[@]}" $args >/dev/full 2>"$work/err" </dev/null
	status=$?
	check "unpu $args to a full disk" is_one_line 1 'standard output'
	# shellcheck disable=SC2086
	"${unpu[@]}" $args >&- 2>"$work/err" </dev/null
	status=$?
	check "unpu $args without stdout" is_one_line 1 'standard output'
done

# ---- devices and info ----

run devices
check 'devices' is_quiet
check 'devices lists the cpu' grep -q '^cpu  ' "$work/out"
run info "$model"
check 'info' is_quiet
for want in 'architecture +llama' 'weight_type +F32' 'layers +[1-9]' 'context +[1-9]' \
	'hidden +[1-9]' 'heads +[1-9]' 'kv_heads +[1-9]' 'head_dim +[1-9]' 'vocab +[1-9]' \
	'parameters +[1-9]' "file_bytes +$(stat -c %s "$model")"; do
	check "info shows $want" grep -qE "^$want" "$work/out"
done
run info "$model" --tensors
check 'info --tensors' is_quiet
check 'info --tensors lists token_embd.weight' grep -qF 'token_embd.weight [' "$work/out"
if have_python 'JSON of devices and info'; then
	for args in devices "info $model" "info $model --tensors"; do
		# shellcheck disable=SC2086
		run $args --json
		check "${args%% *} --json" is_quiet
		check "${args%% *} --json is JSON" "$python" -m json.tool "$work/out" /dev/null
	done
	check 'info --json holds what info shows' "$python" -c '
import json, sys
info = json.load(open(sys.argv[1]))
assert info["architecture"] == "llama" and info["layers"] > 0, info
names = [t["name"] for t in info["tensors"]]
assert "token_embd.weight" in names and len(set(names)) == len(names), names
' "$work/out"
fi
for arch in llama qwen2 qwen3 gpt2; do
	for type in f32 f16 bf16 q8_0 q4_0; do
		make_tiny $arch $type
		run info "$tiny"
		check "info of $arch $type" is_quiet
		check "info of $arch $type names them" \
			grep -qiE "^(architecture +$arch|weight_type +$type)" "$work/out"
	done
done
finish
