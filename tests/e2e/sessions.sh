#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu run with sessions on disk, a prompt cache, chat, stop strings, penalties, bias and JSON.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q8_0 context=256
model=$tiny
prompt='Hello world, said the fox to the hen'

no_rest() { # of temporary files, in folder $1
	[ -z "$(find "$1" -name '*.tmp')" ] || ls "$1"
	[ -z "$(find "$1" -name '*.tmp')" ]
}

# ---- --save and --load ----

for sampler in '--temp 0' '--temp 1.5 --seed 3' '--temp 1.5 --seed 3 --repeat-penalty 1.2'; do
	# shellcheck disable=SC2086
	run run "$model" -p "$prompt" -n 30 $sampler
	cp "$work/out" "$work/whole"
	# shellcheck disable=SC2086
	run run "$model" -p "$prompt" -n 12 $sampler --save "$work/session"
	check "--save, $sampler" is_quiet
	check '--save leaves nothing but the file' no_rest "$work"
	cp "$work/out" "$work/first"
	for threads in 1 3; do
		# shellcheck disable=SC2086
		run run "$model" --load "$work/session" -n 18 $sampler -t $threads
		check "--load, $sampler, -t $threads" is_quiet
		check "$sampler, -t $threads: a saved session goes on as if nothing had been" \
			cmp "$work/whole" <(head -c -1 "$work/first"; cat "$work/out")
	done
	run run "$model" --load "$work/session" -n 18
	check "$sampler: the session's own settings go on" \
		cmp "$work/whole" <(head -c -1 "$work/first"; cat "$work/out")
done
run run "$model" --load "$work/session" -n 18 --stats --temp 0
cp "$work/out" "$work/greedy"
check 'a loaded seed is told' grep -qE '^seed +3$' "$work/err"
run run "$model" --load "$work/session" -n 18 --temp 0 --seed 9
check 'what the command line says goes over what a session was saved with' \
	cmp "$work/greedy" "$work/out"
check 'a seed that is given is told' is_quiet

run run "$model" -p "$prompt" -n 4 --temp 0 --save "$work/session"
run run "$model" --load "$work/session" -p ' and then' -n 6 --temp 0
check 'a prompt is appended to a session' is_quiet
same 'only the prompt that is appended is written' ' and then' "$(head -c 9 "$work/out")"
cp "$work/out" "$work/whole"
run run "$model" --load "$work/session" -f - -n 6 --temp 0
check '--load -f - with an empty stdin goes on' is_quiet
"${unpu[@]}" run "$model" --load "$work/session" -f - -n 6 --temp 0 < <(printf ' and then') \
	>"$work/out" 2>"$work/err"
check '--load -f - reads stdin' cmp "$work/whole" "$work/out"
run run "$model" --load "$work/session" -n 6 --temp 0 --stats
cp "$work/out" "$work/whole"
"${unpu[@]}" run "$model" --load "$work/session" -n 6 --temp 0 < <(printf x) \
	>"$work/out" 2>"$work/other"
check '--load reads no stdin without -f' cmp "$work/whole" "$work/out"
check '--load runs no prompt' grep -qE '^prompt +[01] tokens' "$work/err"
cp "$work/session" "$work/both"
run run "$model" --load "$work/both" -n 6 --temp 0 --save "$work/both"
check '--load and --save may be the same file' is_quiet
check '--save replaces the file' eval '! cmp -s "$work/both" "$work/session"'
run run "$model" --load "$work/session" -n 0 --temp 0 -c 20
check 'a session larger than the context' is_one_line 1 "$work/session"
run run "$model" --load "$work/session" -p "$prompt$prompt$prompt" -n 6 -c 64
check 'a prompt that does not fit behind the session' is_one_line 1 'room for 64'
for kv in f32 int8; do
	run run "$model" --load "$work/session" -n 6 --temp 0 --kv $kv
	check "--load with --kv $kv is a warning" is_one_line 0 "warning: $work/session"
done
for kv in f32 f16 int8; do
	run run "$model" -p "$prompt" -n 20 --temp 0 --kv $kv
	check "--kv $kv" is_quiet
	cp "$work/out" "$work/whole"
	run run "$model" -p "$prompt" -n 9 --temp 0 --kv $kv --save "$work/kv"
	cp "$work/out" "$work/first"
	run run "$model" --load "$work/kv" -n 11 --temp 0 --kv $kv
	check "--kv $kv: a saved session goes on" cmp "$work/whole" \
		<(head -c -1 "$work/first"; cat "$work/out")
done
make_tiny llama q8_0 context=256 seed=9
other=$tiny
run run "$other" --load "$work/session" -n 6 --temp 0
check 'a session of another model is a warning' is_one_line 0 "warning: $work/session"
head -c 100 "$work/session" >"$work/cut"
: >"$work/empty"
head -c 5000 /dev/urandom >"$work/random"
for file in cut empty random; do
	run run "$model" --load "$work/$file" -n 6 --temp 0
	check "--load of a file that is $file" is_one_line 1 "$work/$file: "
	check "--load of a file that is $file: nothing on stdout" [ ! -s "$work/out" ]
done
run run "$model" --load "$work" -n 1
check '--load of a folder' is_one_line 1 "$work"

run run "$model" -p a -n 1 --save "$work"
check '--save into a folder' is_one_line 1 "$work"
check '--save into a folder: nothing was done' [ ! -s "$work/out" ]
run run "$model" -p a -n 1 --save /dev/full
check '--save to a full disk' is_one_line 1 /dev/full
check '/dev/full is a device still' [ -c /dev/full ]
run run "$model" -p "$prompt" -n 4 --temp 0 --save /dev/null
check '--save to /dev/null' is_quiet
"${unpu[@]}" run "$model" -p "$prompt" -n 4 --temp 0 --save >(cat >"$work/piped") \
	>/dev/null 2>"$work/err" </dev/null
for i in {1..100}; do
	cmp -s "$work/piped" "$work/session" && break
	sleep 0.02
done
run run "$model" --load "$work/piped" -n 3 --temp 0
check '--save into a pipe' is_quiet
run run "$model" --load <(cat "$work/session") -n 3 --temp 0
check '--load from a pipe' is_quiet
echo old >"$work/kept"
run run "$model" -p "$prompt$prompt$prompt$prompt$prompt$prompt$prompt" -c 16 --save "$work/kept"
same 'after an error the old session stands' old "$(cat "$work/kept")"
check 'after an error nothing is left' no_rest "$work"
(cd "$work" && "${unpu[@]}" run "$model" -p a -n 1 --save relative </dev/null >/dev/null 2>&1)
check 'a relative file' [ -s "$work/relative" ]

# ---- --prompt-cache ----

kept() { sed -n 's/^prompt .*, \([0-9]*\) kept$/\1/p' "$work/err"; }
ran() { sed -n 's/^prompt  *\([0-9]*\) tokens.*/\1/p' "$work/err"; }
for cut in 0 3 12; do
	changed=${prompt:0:$cut}$(tr a-z n-za-m <<<"${prompt:$cut}")
	rm -f "$work/cache"
	run run "$model" -p "$prompt" -n 8 --temp 0 --prompt-cache "$work/cache" --stats
	same 'the first time nothing is kept' '' "$(kept)"
	check 'the first time the cache is written' [ -s "$work/cache" ]
	run run "$model" -p "$changed" -n 8 --temp 0
	cp "$work/out" "$work/whole"
	run run "$model" -p "$changed" -n 8 --temp 0 --prompt-cache "$work/cache" --stats
	check "$cut bytes in common: the text is as without a cache" cmp "$work/whole" "$work/out"
	check "$cut bytes in common: their tokens are kept" \
		[ "$(kept)" -ge $((cut > 0 ? cut / 4 : 1)) ]
done
cp "$work/cache" "$work/before"
ls -li "$work/cache" >"$work/inode"
run run "$model" -p "$changed" -n 8 --temp 0 --prompt-cache "$work/cache" --stats
same 'the same prompt runs one token at most' 1 "$(($(ran) <= 1))"
check 'the same prompt: the text is as without a cache' cmp "$work/whole" "$work/out"
same 'the same prompt: the file is not written' "$(cat "$work/inode")" "$(ls -li "$work/cache")"
check 'a prompt cache leaves nothing but the file' no_rest "$work"
# Text that was generated is not in the cache; a longer prompt makes use of a shorter one.
run run "$model" -p "$changed and more" -n 8 --temp 0
cp "$work/out" "$work/whole"
run run "$model" -p "$changed and more" -n 8 --temp 0 --prompt-cache "$work/cache" --stats
check 'a longer prompt: the text is as without a cache' cmp "$work/whole" "$work/out"
check 'a longer prompt: the shorter one is kept' [ "$(kept)" -ge 20 ]
for file in cut empty random; do
	cp "$work/$file" "$work/bad"
	run run "$model" -p "$changed and more" -n 8 --temp 0 --prompt-cache "$work/bad"
	check "a cache that is $file is a warning" is_one_line 0 "warning: $work/bad: "
	check "a cache that is $file: the text is as without a cache" cmp "$work/whole" "$work/out"
	run run "$model" -p "$changed and more" -n 8 --temp 0 --prompt-cache "$work/bad" --stats
	same "a cache that is $file is good the next time" 1 "$(($(ran) <= 1))"
done
run run "$other" -p "$changed and more" -n 8 --temp 0
cp "$work/out" "$work/whole"
run run "$other" -p "$changed and more" -n 8 --temp 0 --prompt-cache "$work/cache"
check "another model's cache is a warning" is_one_line 0 "warning: $work/cache: "
check "another model's cache: the text is as without a cache" cmp "$work/whole" "$work/out"
run run "$other" -p "$changed and more" -n 8 --temp 0 --prompt-cache "$work/cache"
check "another model's cache is rebuilt" is_quiet
run run "$other" -p a -n 8 --temp 0 --prompt-cache "$work/cache" -c 10
check 'a cache larger than the context is a warning' is_one_line 0 "warning: $work/cache: "
run run "$model" -p a --prompt-cache "$work"
check '--prompt-cache is a folder' is_one_line 1 "$work"

# ---- --stop, penalties, bias ----

run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo
cp "$work/out" "$work/whole"
stop=$(LC_ALL=C grep -aoE '[A-Za-z]{2,}' "$work/whole" | sed -n 2p)
if [ -n "$stop" ]; then
	run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo --stop "$stop" --stats
	check '--stop: the text ends before it' eval \
		'[ "$(cat "$work/out"; echo .)" = "$(LC_ALL=C awk -v s="$stop" -v RS="\001" \
			"{ print substr(\$0, 1, index(\$0, s) - 1) }" "$work/whole"; echo .)" ]'
	check '--stop: --stats say so' grep -q '^end  *stop string' "$work/err"
	run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo --stop nowhere --stop "$stop" \
		--stop 'not there'
	check '--stop may be given again' [ "$(stat -c %s "$work/out")" -lt \
		"$(stat -c %s "$work/whole")" ]
else
	fail 'a word to stop at' "$(cat "$work/whole")"
fi
run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo --stop 'nowhere in it'
check 'a --stop that does not come changes nothing' cmp "$work/whole" "$work/out"
run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo --stop Hello
check 'a --stop in the prompt changes nothing' cmp "$work/whole" "$work/out"
for args in '--frequency-penalty 50' '--presence-penalty 50'; do
	# shellcheck disable=SC2086
	run run "$model" -p "$prompt" -n 40 --temp 0 --no-echo $args
	check "$args" is_quiet
	check "$args changes the text" eval '! cmp -s "$work/whole" "$work/out"'
done
run run "$model" -p "$prompt" -n 9 --temp 0 --json --bias 300=100
check '--bias' is_quiet
same '--bias 100 makes a token come always' '300 300 300 300 300 300 300 300 300' \
	"$(sed -n '/"ids"/,/]/s/^ *\([0-9]*\),*$/\1/p' "$work/out" | paste -sd ' ')"
run run "$model" -p "$prompt" -n 9 --temp 0 --json --bias 300=100 --bias 300=-inf
check '--bias: the last one of an id counts' eval '! grep -qw 300 <(grep -v context "$work/out")'

# ---- --json ----

if have_python 'JSON of run'; then
	json() { # $1: what, $2: what must hold of r, the rest: arguments
		run run "${@:3}" --json
		same "$1: exit status" 0 "$status"
		check "$1" "$python" -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert list(r) == ["text", "ids", "reason", "stats"], r
assert all(isinstance(id, int) for id in r["ids"]), r
s = r["stats"]
assert s["generated_tokens"] == len(r["ids"]), r
assert all(isinstance(s[k], (int, float)) for k in s if k not in ("kv", "device",
                                                                  "device_name", "sandbox")), s
assert eval(sys.argv[2]), r
' "$work/out" "$2"
	}
	json 'length' 'r["reason"] == "length" and len(r["ids"]) == 9' \
		"$model" -p "$prompt" -n 9 --temp 0
	json 'the prompt is not in the text' 'not r["text"].startswith("Hello")' \
		"$model" -p "$prompt" -n 9 --temp 0
	json 'nothing' 'r["text"] == "" and r["ids"] == [] and r["reason"] == "length"' \
		"$model" -p "$prompt" -n 0
	json 'stop' 'r["reason"] == "stop"' "$model" -p "$prompt" -n 40 --temp 0 --stop "$stop"
	json 'end' 'r["reason"] == "end" and r["ids"] == [2] and r["text"] == ""' \
		"$model" -p "$prompt" -n 40 --temp 0 --bias 2=100
	json 'context' 'r["reason"] == "context"' "$model" -p "$prompt" -n 400 --temp 0 -c 64
	json 'a seed' 's["seed"] == 18446744073709551615' \
		"$model" -p a -n 1 --seed 18446744073709551615
	json 'a drawn seed is exact in a double' 'int(float(s["seed"])) == s["seed"] < 2**53' \
		"$model" -p a -n 1
	json 'bytes that are no UTF-8' 'r["text"] == "\ufffd" * 5' \
		"$model" -p a -n 5 --temp 0 --bias 200=100
	json 'control characters' 'r["text"] == "\x04" * 3' \
		"$model" -p a -n 3 --temp 0 --bias 7=100
	json 'settings' 's["kv"] == "f32" and s["threads"] == 2 and s["context"] == 100' \
		"$model" -p a -n 3 --temp 0 --kv f32 -t 2 -c 100
	run run "$model" -p "$prompt" -n 9 --temp 0 --no-echo
	cp "$work/out" "$work/whole"
	run run "$model" -p "$prompt" -n 9 --temp 0 --json --no-echo
	check 'the text is what is written without --json' "$python" -c '
import json, sys
text = json.load(open(sys.argv[1]))["text"]
assert text + "\n" == open(sys.argv[2], encoding="utf-8", errors="replace").read(), text
' "$work/out" "$work/whole"
	run run "$model" -p "$prompt" -n 9 --temp 0 --json --save no/such/file
	check '--json and an error: one line' is_one_line 1 no/such
	check '--json and an error: nothing on stdout' [ ! -s "$work/out" ]
	run run "$model" -p "$prompt" -n 9 --temp 0 --json --save /dev/full
	check '--json is written also when it cannot be saved' "$python" -m json.tool "$work/out" \
		/dev/null
	same 'which is an error still' 1 "$status"
	run run "$model" -p "$prompt" -n 9 --temp 0 --json --stats
	check '--json --stats: both' eval '[ -s "$work/err" ]'
	check '--json --stats: JSON' "$python" -m json.tool "$work/out" /dev/null
fi
"${unpu[@]}" run "$model" -p a -n 4 --json >/dev/full 2>"$work/err" </dev/null
status=$?
check '--json to a full disk' is_one_line 1 'No space left'

# ---- --chat ----

run run "$model" --chat -p 'Hi' -n 4
check '--chat of a model without a form' is_one_line 1 '--template'
run run "$model" --chat --template nonsense -p 'Hi' -n 4
check '--chat with an unknown form' is_one_line 1 nonsense
for kind in 'tokenizer=spm' 'tokenizer=bpe'; do
	make_tiny llama q8_0 context=256 chat=1 $kind
	run run "$tiny" --chat -p 'Hi' -n 8 --temp 0
	check "$kind: --chat" is_quiet
	cp "$work/out" "$work/answer"
	# The form by hand: what is between markers is text, and the markers are tokens.
	user='<|im_start|>user' end='<|im_end|>' answer=$'<|im_start|>assistant\n'
	run info "$tiny"
	check "$kind: info names the form" grep -qE '^chat_template +chatml$' "$work/out"
	run tokenize "$tiny" --special -p "$user"$'\nHi'"$end"$'\n'"$answer"
	ids=$(cat "$work/out")
	run run "$tiny" --tokens "$ids" -n 8 --temp 0
	check "$kind: --chat is the form by hand" cmp "$work/answer" "$work/out"
	printf 'Hi\n' >"$work/message"
	run run "$tiny" --chat -f "$work/message" -n 8 --temp 0
	check "$kind: the last newline of a file is no part of the message" cmp "$work/answer" \
		"$work/out"
	run run "$tiny" --chat -p 'Hi' -n 8 --temp 0 --template chatml
	check "$kind: --template chatml is the model's own" cmp "$work/answer" "$work/out"
	run run "$tiny" --chat -p 'Hi' -n 8 --temp 0 --system 'Be kind.'
	check "$kind: --system" is_quiet
	check "$kind: --system changes the answer" eval '! cmp -s "$work/answer" "$work/out"'
	# A second message to a saved session: first what ends the answer, if that was cut off.
	used() { sed -n 's/^ *"used": \([0-9]*\),$/\1/p' "$work/out"; }
	for answer_end in '-n 4' "-n 40 --bias $(("$("${unpu[@]}" info "$tiny" |
		sed -n 's/^vocab *//p')" - 1))=100"; do
		# shellcheck disable=SC2086
		run run "$tiny" --chat -p 'Hi' --temp 0 --save "$work/turn" --json $answer_end
		before=$(used) first=
		grep -q '"reason": "length"' "$work/out" && first=$end
		run run "$tiny" --chat -p 'And you?' -n 0 --load "$work/turn" --json
		check "$kind, $answer_end: --chat goes on from a session" is_quiet
		after=$(used)
		run tokenize "$tiny" --special -p \
			"$first"$'\n'"$user"$'\nAnd you?'"$end"$'\n'"$answer"
		begin=$("${unpu[@]}" tokenize "$tiny" --special -p '' | wc -w)
		same "$kind, $answer_end: the tokens of the second message" \
			$(($(wc -w <"$work/out") - begin)) $((after - before))
	done
	run run "$tiny" --chat -p 'Hi<|im_end|>' -n 0 --json
	marked=$(used)
	run run "$tiny" --chat -p 'Hi' -n 0 --json
	check "$kind: a marker in a message is no token" [ "$marked" -gt $(($(used) + 1)) ]
done
finish
