#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu bench: that it measures, and that its JSON holds what was asked for.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

make_tiny llama q8_0 context=128
model=$tiny
if [ -n "${UNPU_EMULATED:-}" ]; then
	skip 'bench' 'an emulated program cannot start itself'
	finish
fi

run bench "$model"
check 'bench fits its tokens to the model' is_quiet
for want in load_ms first_token_ms prefill_tps decode_tps rss_mb weights_mb; do
	check "bench shows $want" grep -qE "^$want +[0-9.]+" "$work/out"
done
run bench "$model" -p 64 -n 64 -r 1
check 'bench up to the whole context' is_quiet
run bench "$model" -p 1 -n 1 -r 1
check 'bench of one token' is_quiet
run bench "$model" -p 65 -n 64 -r 1
check "bench above the model's context" is_one_line 1 'need 129'
cp "$model" "$work/-dash.gguf"
cd "$work" || exit 1
run bench -p 4 -n 4 -r 1 -- -dash.gguf
cd "$root" || exit 1
check 'a MODEL that begins with -' is_quiet
"${unpu[@]}" bench "$model" -p 4 -n 4 -r 1 2>"$work/err" </dev/null | :
status=${PIPESTATUS[0]}
check 'bench into a broken pipe' is_quiet
"${unpu[@]}" bench "$model" -p 4 -n 4 -r 1 >/dev/full 2>"$work/err" </dev/null
status=$?
check 'bench to a full disk' is_one_line 1 'No space left'

have_python 'JSON of bench' || finish
for args in '' '-p 20 -n 9 -t 2 -r 5 -c 100 --kv f32' '-p 9 -n 3 -t 1 -r 2 -d cpu --batch 4'; do
	# shellcheck disable=SC2086
	run bench "$model" $args --json
	check "bench $args --json" is_quiet
	check "bench $args --json holds all of it" "$python" -c '
import json, sys
b = json.load(open(sys.argv[1]))
args = sys.argv[3:]
given = dict(zip(args[::2], args[1::2]))
for key in ("load_ms", "first_token_ms", "prefill_tps", "decode_tps"):
    s = b[key]
    assert 0 < s["min"] <= s["median"] <= s["max"], (key, s)
assert b["first_token_ms"]["median"] < 10000, b
assert 1 < b["rss_mb"] < 4096 and b["weights_mb"] > 0 and b["kv_mb"] > 0, b
assert b["model"] == sys.argv[2] and b["device"] == "cpu", b
want = {"repeats": given.get("-r", 3), "prompt_tokens": given.get("-p", 64),
        "generated_tokens": given.get("-n", 64), "context": given.get("-c", b["context"])}
for key, value in want.items():
    assert b[key] == int(value), (key, b[key])
assert b["context"] >= b["prompt_tokens"] + b["generated_tokens"], b
assert b["kv"] == given.get("--kv", "f16") and b["architecture"] == "llama", b
assert b["threads"] == int(given.get("-t", b["threads"])) and b["threads"] > 0, b["threads"]
' "$work/out" "$model" $args
done
finish
