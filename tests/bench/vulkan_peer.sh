#!/bin/bash
# SPDX-License-Identifier: MIT
# unpu and llama.cpp's Vulkan backend in turn, both on Vulkan device 0, then how long unpu takes
# until it is ready for a prompt, on that device and on the cpu:
# tests/bench/vulkan_peer.sh PEER_DIR MODEL..., PEER_DIR and the environment as for peers.sh, with
# llama.cpp built with -DGGML_VULKAN=ON. Exits 1 when unpu is slower anywhere.
set -eu

[ $# -ge 2 ] || { echo 'usage: tests/bench/vulkan_peer.sh PEER_DIR MODEL...' >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
export UNPU=${UNPU:-$here/../../build/unpu}
export THREADS=${THREADS:-2} PROMPT=${PROMPT:-16} GENERATE=${GENERATE:-32} ROUNDS=${ROUNDS:-3}
status=0
GGML_VK_VISIBLE_DEVICES=0 UNPU_ARGS='-d vulkan:0' PEER_ARGS='-ngl 99' "$here/peers.sh" "$@" ||
	status=$?
shift
for model in "$@"; do
	for round in $(seq "$ROUNDS"); do
		for device in cpu vulkan:0; do
			"$UNPU" bench "$model" --json -p 8 -n 2 -r 1 -d $device |
				sed "s|^|$(basename "$model") $device |"
		done
	done
done | python3 -c '
import collections, json, statistics, sys
runs = collections.defaultdict(list)
text = collections.defaultdict(str)
for line in sys.stdin:
    model, device, rest = line.split(" ", 2)
    text[model, device] += rest
for key, value in text.items():
    decoder, at = json.JSONDecoder(), 0
    while value[at:].strip():
        at += len(value[at:]) - len(value[at:].lstrip())
        run, at = decoder.raw_decode(value, at)
        load = run["load_ms"]
        runs[key].append(load["median"] if isinstance(load, dict) else load)
for (model, device), loads in sorted(runs.items()):
    print(f"{model} ready on {device}: {statistics.median(loads):.0f} ms "
          f"({min(loads):.0f} to {max(loads):.0f})")
'
exit $status
