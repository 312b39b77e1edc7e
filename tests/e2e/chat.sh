#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu chat: messages through a pipe, and somebody at a terminal.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

if ! "${unpu[@]}" --help | grep -q '^  chat '; then
	skip 'unpu chat' 'built without chat'
	finish
fi

make_tiny llama f32 chat=1 vocab=400 context=512
model=$tiny
# Conversations are saved beneath the folder that the command was started in.
case ${unpu[-1]} in
/*) ;;
*) unpu[-1]=$PWD/${unpu[-1]} ;;
esac
cd "$work" || exit 1
# Token 380 is "word380"; these two end a text.
word=(--bias 380=100 --temp 0)
endless=(--bias 399=-inf --bias 2=-inf)

# A chat with $1, which printf expands, as stdin; the rest are options.
chat() {
	local text=$1
	shift
	# shellcheck disable=SC2059
	printf "$text" | "${unpu[@]}" chat "$model" "$@" >"$work/out" 2>"$work/err"
	status=$?
}

# $1: what must hold, $2: stdout, with printf's escapes
wrote() {
	# shellcheck disable=SC2059
	check "$1" cmp <(printf "$2") "$work/out"
}

# The last chat ended well, and all on stderr are notes in brackets.
is_noted() {
	[ "$status" = 0 ] && ! grep -qv '^\[.*\]$' "$work/err" && return
	echo "exit $status: $(cat "$work/err")"
	return 1
}

# All but one line of the last chat are notes; that one begins with "unpu: " and names $1.
is_one_failure() {
	grep -v "^\[.*\]$" "$work/err" >"$work/lines"
	[ "$status" = 1 ] && [ "$(grep -c "" "$work/lines")" = 1 ] &&
		grep -q "^unpu: " "$work/lines" && grep -qF -- "$1" "$work/lines" && return
	echo "exit $status: $(cat "$work/err")"
	return 1
}

noted() { # $1: what must hold, $2: a note
	check "$1" grep -qxF "[$2]" "$work/err"
}

# ---- messages and answers ----

chat 'hi\nbye\n' -n 2 "${word[@]}"
check 'two messages' is_noted
wrote 'answers with an empty line between' 'word380word380\n\nword380word380\n'
same 'a note for each that was cut' 2 "$(grep -cxF '[cut after 2 tokens]' "$work/err")"
chat 'hi\nbye' -n 2 "${word[@]}"
wrote 'the last line needs no newline' 'word380word380\n\nword380word380\n'
chat 'hi\n\n  \nbye\n' -n 2 "${word[@]}"
wrote 'empty lines are no messages' 'word380word380\n\nword380word380\n'
chat 'hi\\\nand\\\nmore\nbye\n' -n 2 "${word[@]}"
wrote 'a backslash goes on with the next line' 'word380word380\n\nword380word380\n'
chat 'hi\\\n' -n 2 "${word[@]}"
wrote 'a backslash at the end of input' 'word380word380\n'
chat '' -n 2 "${word[@]}"
check 'no message' is_quiet
wrote 'no message, no answer' ''

chat 'hi\n' -n 2 "${word[@]}" --bias 399=100 --bias 380=-100
check 'an empty answer' is_noted
wrote 'an empty answer is an empty line' '\n'
noted 'an empty answer is noted' 'an empty answer'
chat 'hi\nho\n' -n 5 "${word[@]}" --stop 80w
check '--stop' is_quiet
wrote '--stop ends an answer' 'word3\n\nword3\n'
# In a vocabulary of bytes 30 is ESC; nobody but a terminal is protected from it.
chat 'hi\n' -n 2 --temp 0 --bias 30=100
wrote 'control characters are bytes in a pipe' '\033\033\n'
chat 'hi\n' -n 3 --temp 0 --bias 13=100
wrote 'newlines of an answer end its line' '\n\n\n'

# The same bytes are the same message, whatever the line that they came in.
chat 'a message\n' -n 12 --temp 0
cp "$work/out" "$work/first"
chat 'a message\r\n' -n 12 --temp 0
check 'lines may end with CR LF' cmp "$work/first" "$work/out"
chat '/a message\n' -n 12 --temp 0
check '/a is no command' is_one_line 1 '/help'
chat '//a message\n' -n 12 --temp 0
cp "$work/out" "$work/first"
chat 'a message\n' -n 12 --temp 0
check '// is / and not nothing' eval '! cmp -s "$work/first" "$work/out"'

for args in '--seed 5 -t 1' '--seed 5 -t 2 --batch 3' '--seed 5 -t 3'; do
	# shellcheck disable=SC2086
	chat 'one\ntwo\n' -n 12 $args
	[ -e "$work/seeded" ] || cp "$work/out" "$work/seeded"
	check "$args: same seed, same answers" cmp "$work/seeded" "$work/out"
done
chat 'one\ntwo\n' -n 12 --seed 6
check 'another seed, other answers' eval '! cmp -s "$work/seeded" "$work/out"'
chat 'one\ntwo\n' -n 12 --seed 5 --system 'be brief'
check '--system makes a difference' eval '! cmp -s "$work/seeded" "$work/out"'
chat '/system be brief\none\ntwo\n' -n 12 --seed 5
cp "$work/out" "$work/first"
chat 'one\ntwo\n' -n 12 --seed 5 --system 'be brief'
check '/system is as --system' cmp "$work/first" "$work/out"
chat '/system\none\ntwo\n' -n 12 --seed 5 --system 'be brief'
check '/system alone is as no --system' cmp "$work/seeded" "$work/out"

# ---- commands ----

chat '/help\nhi\n/stats\n' -n 2 "${word[@]}"
same '/help and /stats are no failures' 0 "$status"
wrote 'commands write nothing to stdout' 'word380word380\n'
for name in help reset save load stats system quit; do
	check "/help knows /$name" grep -q "^/$name " "$work/err"
done
for key in prompt decode memory context seed device; do
	check "/stats says $key" grep -q "^$key  *[0-9c]" "$work/err"
done
chat 'hi\n/quit\nhi\n' -n 2 "${word[@]}"
check '/quit' is_noted
wrote '/quit ends' 'word380word380\n'
chat 'hi\n/reset\nhi\n' -n 12 --temp 0
check '/reset' is_noted
noted '/reset is noted' 'the conversation begins anew'
check '/reset begins anew' cmp <(head -n 1 "$work/out") <(tail -n 1 "$work/out")
for line in /nonsense '/helpme' '/save' '/load' '/reset now' '/stats all' '/' '/load -'; do
	chat "$line\nhi\n" -n 2 "${word[@]}"
	check "'$line'" is_one_failure "${line%% *}"
	wrote "after '$line' it goes on" 'word380word380\n'
done
chat '/x\033[2J\n' -n 1
check 'what is no command is shown without its control characters' is_one_line 1 '/x\x1B[2J'
chat 'hi\n' --stats -n 2 "${word[@]}"
check '--stats' grep -q '^end  *as many tokens as asked for$' "$work/err"

# ---- files ----

talk='one\ntwo\n'
chat "${talk}/save talk\nthree\n" -n 12 --temp 0
check '/save' is_noted
tail -n 1 "$work/out" >"$work/third"
chat 'three\n' -n 12 --temp 0 --load talk
check '--load' is_noted
check '--load goes on where /save was' cmp "$work/third" "$work/out"
check '--load says what there is' grep -qx '.loaded: 2 turns, [1-9][0-9]* tokens.' "$work/err"
chat "something else\n/load talk\nthree\n" -n 12 --temp 0
check '/load' is_noted
check '/load goes on where /save was' cmp "$work/third" <(tail -n 1 "$work/out")
chat "${talk}/load nothing\nthree\n" -n 12 --temp 0
check '/load of no file' is_one_failure nothing
check 'after /load of no file it goes on' cmp "$work/third" <(tail -n 1 "$work/out")
echo "no conversation" >wrong
for file in "${model##*/}" wrong /dev/null /; do
	chat "${talk}/load $file\nthree\n" -n 12 --temp 0
	same "/load $file fails" 1 "$status"
	same "/load $file: one line" 1 "$(grep -c '^unpu: ' "$work/err")"
	check "after /load $file it goes on" cmp "$work/third" <(tail -n 1 "$work/out")
done
head -c 100 talk >cut
chat 'three\n' --load cut
check '--load of half a file' is_one_line 1 cut
chat 'three\n' --load nothing
check '--load of no file' is_one_line 1 nothing
chat 'three\n' --load -
check '--load of standard input' is_one_line 2 --load
chat "/save talk2\n" -n 2
check '/save of nothing' is_one_line 1 /save
check '/save of nothing leaves nothing' [ ! -e talk2 ]
chat "hi\n/save no/where\nho\n" -n 2 "${word[@]}"
check '/save into no folder' grep -q "^unpu: .*no/where" "$work/err"
wrote 'after a /save that failed it goes on' 'word380word380\n\nword380word380\n'
run run "$model" -p 'Once upon a time' -n 20 --save text
chat 'three\n' -n 2 "${word[@]}" --load text
check '--load of a text' is_noted
check '--load of a text: one turn' grep -qx '.loaded: 1 turn, [1-9][0-9]* tokens.' "$work/err"

# ---- a full context ----

chat "$(printf 'message %s\\n' {1..20})" -n 10 --temp 0 -c 128 "${endless[@]}"
check 'more than the context' is_noted
check 'turns that are dropped are noted' \
	grep -q '^.the context is full: the oldest [0-9]* turn' "$work/err"
same 'each message is answered' 20 "$(grep -cxF '[cut after 10 tokens]' "$work/err")"
chat 'hi\nho\n' -c 128 "${word[@]}"
check 'endless answers' is_noted
noted 'an answer ends with the context' 'the context of 128 tokens is full, the answer ends here'
noted 'an answer outlives a turn' 'the context is full: the oldest 1 turn was dropped'
chat "$(printf '#%.0s' {1..300})\nhi\n" -c 128 -n 2 "${word[@]}"
check 'a message larger than the context' is_one_failure 'the message has no room'
wrote 'after a message that is too large it goes on' 'word380word380\n'

# ---- what goes wrong ----

make_tiny llama f32 vocab=400
run chat "$tiny"
check 'a model without a template' is_one_line 1 'chat template'
run chat "$tiny" --template nonsense
check 'an unknown template' is_one_line 1 nonsense
printf 'hi\n' | "${unpu[@]}" chat "$tiny" --template alpaca -n 2 "${word[@]}" \
	>"$work/out" 2>"$work/err"
status=$?
check '--template' is_noted
run chat
check 'no model' is_one_line 2 MODEL
run chat "$model" more
check 'one argument too many' is_one_line 2 more
run chat "$work/nothing"
check 'a model that is not there' is_one_line 1 "$work/nothing"
"${unpu[@]}" chat "$model" </ >"$work/out" 2>"$work/err"
status=$?
check 'stdin is a directory' is_one_line 1 'standard input'
"${unpu[@]}" chat "$model" <&- >"$work/out" 2>"$work/err"
status=$?
check 'stdin is closed' is_one_line 1 'standard input'
printf 'hi\nho\n' | "${unpu[@]}" chat "$model" -n 2 >/dev/full 2>"$work/err"
status=$?
check 'stdout is full' eval '[ $status = 1 ] && grep -q "^unpu: cannot write" "$work/err"'
yes | "${unpu[@]}" chat "$model" -n 2 "${word[@]}" 2>"$work/err" | head -n 1 >"$work/out"
same 'a reader that has enough ends it' '0 word380word380' "${PIPESTATUS[1]} $(cat "$work/out")"
head -c 20000000 /dev/zero | "${unpu[@]}" chat "$model" >"$work/out" 2>"$work/err"
status=${PIPESTATUS[1]}
check 'a line without an end' is_one_line 1 'standard input'

# Values that are not finite are how a device fails: every answer does, nothing else.
if have_python 'a device that fails'; then
	"$python" - "$model" "$work/nan.gguf" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
# the last tensor is output.weight: its last rows, all of one value
for at in range(len(data) - 72 * 4 * 300, len(data), 4):
    data[at:at + 4] = b"\0\0\xc0\x7f"
open(sys.argv[2], "wb").write(data)
END
	printf 'hi\nho\n' | "${unpu[@]}" chat "$work/nan.gguf" -n 5 >"$work/out" 2>"$work/err"
	same 'a device that fails: the exit status' 1 $?
	same 'a device that fails: a line for each answer' 2 "$(grep -c '^unpu: ' "$work/err")"
fi

# ---- Ctrl-C in a script ----

make_tiny llama f32 chat=1 vocab=400 context=32768
long=(chat "$tiny" -c 32768 "${endless[@]}" "${word[@]}")
mkfifo "$work/in" "$work/pipe"
env --default-signal=INT "${unpu[@]}" "${long[@]}" <"$work/in" >"$work/pipe" 2>"$work/err" &
pid=$!
exec 7>"$work/in" 8<"$work/pipe"
printf 'hi\nho\n' >&7
head -c 70 <&8 >"$work/out"
kill -INT $pid
cat <&8 >/dev/null
wait $pid
same 'Ctrl-C ends a script' 130 $?
env --default-signal=INT "${unpu[@]}" "${long[@]}" -n 1 <"$work/in" >"$work/pipe" \
	2>"$work/err" &
pid=$!
exec 7>"$work/in" 8<"$work/pipe"
printf 'hi\n' >&7
head -c 8 <&8 >"$work/out"
kill -INT $pid
wait $pid
same 'Ctrl-C where a script waits for input' 130 $?
exec 7>&- 8<&-

# ---- a terminal ----

have_python 'somebody at a terminal' pty || finish
export TERM=linux LC_ALL=C
unset UNPU_HISTORY

# $1: what must hold; stdin: what terminal.py does with the command in "$@".
types() {
	local what=$1
	shift
	check "$what" "$python" "$root/tests/tools/terminal.py" --seconds 120 "${unpu[@]}" "$@"
}

types 'edits lines' chat "$model" <<'END'
expect >\x20
line 0
send /abX\x7fc\r
expect no command /abc;
expect >\x20
send \x1b[A\r
expect no command /abc;
expect >\x20
send /wxz\x1b[Dy\r
expect no command /wxyz;
expect >\x20
send z\x01/\x05q\r
expect no command /zq;
expect >\x20
send \x12xyz
expect wxyz
send \r
expect no command /wxyz;
expect >\x20
send /\xc3\xa4\xe2\x82\xac\x7fq\r
expect no command /\xc3\xa4q;
expect >\x20
send /two\\\r
expect .\x20
send lines\r
expect no command /two;
expect >\x20
send /help\r
expect /quit
expect >\x20
send /quit\r
line 1
exit 0
END

types 'Ctrl-C at the prompt' chat "$model" <<'END'
expect >\x20
send junk
expect junk
send \x03
expect ^C
expect >\x20
never leaves
send /ok\r
expect no command /ok;
expect >\x20
send \x03
expect ^C
expect >\x20
never leaves
send \x03
expect ^C
expect /quit or Ctrl-D leaves
expect >\x20
send /two\\\r
expect .\x20
send \x03
expect ^C
expect >\x20
send /ok\r
expect no command /ok;
expect >\x20
send \x04
line 1
exit 0
END

types 'Ctrl-C stops an answer and not the program' "${long[@]}" --stats <<'END'
expect >\x20
send hello\r
expect word380word380
line 1
send \x03
expect ^C
expect >\x20
line 0
never cut after
send again\r
expect word380word380
send \x03
expect ^C
expect >\x20
send /stats\r
expect interrupted
expect >\x20
send \x04
expect interrupted
exit 0
END

types 'Ctrl-Z and on' chat "$model" <<'END'
expect >\x20
send half
expect half
send \x1a
stopped
line 1
signal CONT
line 0
expect > half
send \x01/\r
expect no command /half;
expect >\x20
signal STOP
stopped
signal CONT
expect >\x20
send /on\r
expect no command /on;
expect >\x20
send \x04
exit 0
END

types 'a terminal that changes its size' chat "$model" <<'END'
expect >\x20
size 10 20
send /abcdefghijklmnopqrstuvwxyz
expect xyz
size 30 100
send \x7f\r
expect no command /abcdefghijklmnopqrstuvwxy;
expect >\x20
send \x04
exit 0
END

types 'a terminal that is no more than a typewriter' chat "$model" -n 2 "${word[@]}" <<'END'
expect >\x20
send hi\r
expect word380word380\r\n
expect [cut after 2 tokens]
expect >\x20
send \x04
exit 0
END

types 'control characters of an answer do nothing to the terminal' \
	chat "$model" -n 3 --temp 0 --bias 30=100 <<'END'
expect >\x20
send hi\r
expect \\x1B\\x1B\\x1B\r\n
expect >\x20
send \x04
exit 0
END
types 'nor do those of a text' run "$model" -p hi -n 3 --temp 0 --bias 30=100 <<'END'
expect hi\\x1B\\x1B\\x1B\r\n
exit 0
END

for name in TERM HUP QUIT; do
	case $name in TERM) number=15 ;; HUP) number=1 ;; QUIT) number=3 ;; esac
	types "SIG$name at the prompt leaves the terminal as it was" chat "$model" <<-END
		expect >\x20
		send half
		expect half
		line 0
		signal $name
		line 1
		exit -$number
	END
done
types 'SIGTERM within an answer leaves the terminal as it was' "${long[@]}" <<'END'
expect >\x20
send hi\r
expect word380
signal TERM
line 1
exit -15
END

UNPU_HISTORY=$work/history types 'a history that is kept' chat "$model" <<'END'
expect >\x20
send /first\r
expect no command /first;
expect >\x20
send /second\r
expect no command /second;
expect >\x20
send \x04
exit 0
END
same 'the history is the owner'"'"'s' 600 "$(stat -c %a "$work/history")"
UNPU_HISTORY=$work/history types 'a history that was kept' chat "$model" <<'END'
expect >\x20
send \x1b[A\x1b[A\r
expect no command /first;
expect >\x20
send /third\r
expect no command /third;
expect >\x20
signal TERM
exit -15
END
check 'a history is kept when SIGTERM ends it' grep -q third "$work/history"
same 'and nothing else is left' 1 "$(find "$work" -name 'history*' | wc -l)"
echo 'something else' >"$work/precious"
UNPU_HISTORY=$work/precious types 'what is no history is not overwritten' chat "$model" <<'END'
expect precious is not a file with a history
exit 1
END
same 'what is no history is as it was' 'something else' "$(cat "$work/precious")"
types 'without UNPU_HISTORY nothing is written' chat "$model" <<'END'
expect >\x20
send /first\r
expect no command /first;
expect >\x20
send \x04
exit 0
END
finish
