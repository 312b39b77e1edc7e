#!/bin/bash
# SPDX-License-Identifier: MIT
# Long steps: what a terminal shows of them, and Ctrl-C in the middle of each.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

# Some seconds of plain C with one thread, so that the half second without a word is over on any
# machine.
export UNPU_CPUMASK=c
make_tiny llama f32 context=4000 layers=4 hidden=128
model=$tiny
seq 1 500 | head -c 1400 >"$work/text"

# $1: signal or "", the rest: arguments. Runs the command with stderr on a terminal, stdout in
# $work/out; the terminal's bytes are in $work/err, $status. With a signal it is sent once something
# is shown.
on_terminal() {
	TERM=${TERM_IS:-xterm} "$python" - "$work" "$@" <<'END'
import os, pty, signal, sys
work, kill, command = sys.argv[1], sys.argv[2], sys.argv[3:]
master, slave = pty.openpty()
pid = os.fork()
if not pid:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(os.open(work + "/out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(slave, 2)
    os.close(master)
    os.execvp(command[0], command)
os.close(slave)
shown = b""
while True:
    try:
        data = os.read(master, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data
    if kill and b"%" in shown:
        os.kill(pid, getattr(signal, kill))
        kill = ""
with open(work + "/err", "wb") as f:
    f.write(shown)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if status >= 0 else 128 - status)
END
	status=$?
}

# The last that a terminal was sent erases the line, and what is left on the screen is $1.
is_erased() {
	"$python" -c '
import re, sys
shown = open(sys.argv[1], "rb").read().decode()
assert "%" in shown, "nothing was shown: %r" % shown
assert re.search(sys.argv[2] + r" \[#* *\] +\d+%", shown), shown
left = re.sub(r"[^\n]*\r\x1b\[K", "", shown)
assert left == "", "left on the screen: %r" % left
assert all(len(part) < 80 for part in re.split("\r|\x1b\\[K", shown)), shown
' "$work/err" "$1"
}

if [ -n "$slow" ]; then
	skip 'progress' 'a text that is long enough takes too long here'
elif have_python 'progress on a terminal' pty; then
	on_terminal '' "${unpu[@]}" eval "$model" --text "$work/text" --window 200 -t 1
	same 'eval on a terminal: exit status' 0 "$status"
	check 'eval on a terminal shows how far it is' is_erased scoring
	check 'and the perplexity so far' grep -q '%  perplexity [0-9]' "$work/err"
	check 'eval on a terminal: the result' grep -q '^perplexity ' "$work/out"
	head -c 1000 "$work/text" >"$work/long"
	on_terminal '' "${unpu[@]}" run "$model" -f "$work/long" -n 2 -t 1
	same 'a long prompt on a terminal: exit status' 0 "$status"
	check 'a long prompt shows how far it is' is_erased prompt
	TERM_IS=dumb on_terminal '' "${unpu[@]}" run "$model" -f "$work/long" -n 2 -t 1
	same 'nothing on a dumb terminal' '' "$(cat "$work/err")"
	run run "$model" -f "$work/long" -n 2 -t 1
	check 'nothing when stderr is no terminal' is_quiet

	# ---- Ctrl-C ----

	on_terminal SIGINT "${unpu[@]}" eval "$model" --text "$work/text" --window 200 -t 1
	same 'Ctrl-C while scoring: 130' 130 "$status"
	check 'Ctrl-C while scoring: the line is erased' is_erased scoring
	same 'Ctrl-C while scoring: no result' '' "$(cat "$work/out")"
	echo old >"$work/kept"
	on_terminal SIGINT "${unpu[@]}" run "$model" -f "$work/long" -n 2 -t 1 --json \
		--prompt-cache "$work/cache"
	same 'Ctrl-C in a long prompt: 130' 130 "$status"
	check 'Ctrl-C in a long prompt: the line is erased' is_erased prompt
	check 'Ctrl-C in a long prompt: JSON says so' "$python" -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert r["reason"] == "cancelled" and r["text"] == "" and r["ids"] == [], r
' "$work/out"
	check 'Ctrl-C in a long prompt: no cache is written' [ ! -e "$work/cache" ]
	on_terminal SIGINT "${unpu[@]}" run "$model" -f "$work/long" -n 2 -t 1 --save "$work/kept"
	same 'Ctrl-C in a long prompt: the old session stands' old "$(cat "$work/kept")"
	for signal in SIGTERM SIGHUP; do
		on_terminal $signal "${unpu[@]}" run "$model" -f "$work/long" -t 1 \
			--save "$work/kept"
		check "$signal ends it" [ "$status" -gt 128 ]
		same "$signal leaves no temporary file" '' "$(find "$work" -name '*.tmp')"
	done
fi

# A signal at any time: the end is 130, or the run was over.
unset UNPU_CPUMASK
make_tiny llama f32 context=4000 layers=4
ended=0
for i in {0..19}; do
	ms=$((i * i / 2))
	env --default-signal=INT "${unpu[@]}" run "$tiny" -p Hello -n 3000 -c 4000 --json \
		--save "$work/saved" --bias 2=-inf >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	# A signal that meets the shell before it has become the command runs this script's end.
	while [ "$(readlink "/proc/$pid/exe")" = "$(readlink /proc/$$/exe)" ]; do :; done
	sleep "0.$(printf %03d $ms)"
	kill -INT $pid 2>/dev/null
	wait $pid
	status=$?
	# Before the command has its handler, the signal itself ends it: a wrapper may still start.
	if [ $status != 130 ] && [ $status != 0 ]; then
		fail "Ctrl-C after $ms ms: 130" "$status"
		continue
	fi
	pass
	[ $status = 130 ] && ended=$((ended + 1))
	if [ -s "$work/out" ] && [ $status = 130 ]; then
		check "Ctrl-C after $ms ms: the reason" grep -q '"reason": "cancelled"' \
			"$work/out"
		# A prompt that was cut leaves nothing to be saved.
		grep -q '"ids": \[\]' "$work/out" ||
			check "Ctrl-C after $ms ms: the session is saved" \
				"${unpu[@]}" run "$tiny" --load "$work/saved" -c 4000 -n 1
	fi
	check "Ctrl-C after $ms ms: nothing is said" [ ! -s "$work/err" ]
	same "Ctrl-C after $ms ms: no temporary file" '' "$(find "$work" -name '*.tmp')"
done
check 'Ctrl-C came in time at least once' [ $ended -gt 0 ]
finish
