#!/bin/bash
# SPDX-License-Identifier: MIT
# Decoding in a guest, through the driver and unpu-vdev, beside the same on the host without them:
# tests/bench/vm.sh [MODEL...], by default the shape of SmolLM2-135M with random weights, Q4_0 and
# Q8_0, made by the tools of the shared folder. One thread each, in turn, medians; exits 1 below
# 0.8 of the host's speed. Environment: UNPU_BUILD, UNPU_SHARED, ROUNDS (5), PROMPT (16), GENERATE
# (64), VDEV (what serves the guest), DEVICE (cpu; vulkan:N: behind the guest and on the host).
# shellcheck source=tests/vm/lib.bash
. "$(dirname "$0")/../vm/lib.bash"

rounds=${ROUNDS:-5}
words="-p ${PROMPT:-16} -n ${GENERATE:-64} -r 1"
vdev=${VDEV:-$build/unpu-vdev} device=${DEVICE:-cpu}
results=$work/results
models=("$@")
python=$(command -v /usr/bin/python3 || command -v python3)
limit=3600

have_tools || exit
for program in "$build/unpu" "$vdev"; do
	[ -x "$program" ] || { say "no $program; run make" && exit 2; }
done

make_models() {
	local type name dir=$build/vm/models
	mkdir -p "$dir"
	for type in q4_0 q8_0; do
		name=$dir/smollm2-135m-$type.gguf
		if [ ! -e "$name" ]; then
			"$python" "$shared/tools/mkmodel.py" smollm2-135m "$name.new" --type $type \
				--vocab "$shared/vocabs/ggml-vocab-smollm2.gguf" &&
				mv "$name.new" "$name" || return
		fi
		models+=("$name")
	done
}

make_disk() { # $work/disk: an ext4 file system with the models
	local bytes
	mkdir -p "$work/models"
	cp -- "${models[@]}" "$work/models/" || return
	bytes=$(du -sb "$work/models" | cut -f 1)
	truncate -s $((bytes * 11 / 10 + (16 << 20))) "$work/disk" &&
		PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -O ^has_journal -d "$work/models" \
			"$work/disk"
}

make_initrd() {
	local driver=$build/vm/bench
	mkdir -p "$driver"
	make -s -C "$root" O="$driver" KDIR="$headers" driver >"$driver/log" 2>&1 || {
		tail -n 5 "$driver/log" >&2
		return 1
	}
	root_begin && root_programs "$build/unpu" &&
		root_driver "$driver/driver/unpu.ko" unpu.ko || return
	root_modules virtio_blk ext4 crc32c_generic
	cp "$root/tools/packaging/60-unpu.rules" "$work/root/etc/unpu.rules"
	mkdir "$work/root/data/cases"
	cp "$here/guest/bench.sh" "$work/root/data/cases/"
	echo "$rounds $words" >"$work/root/etc/bench"
	root_end
}

on_host() { # $1: name of a model
	local json
	# shellcheck disable=SC2086 # words
	json=$("$build/unpu" bench "$work/models/$1" -d "$device" -t 1 --json $words) || return
	echo "host $1 $(echo "$json" | tr -d '\n')" >>"$results"
}

take_line() { # $1: a line of the guest
	case $1 in
	'@host bench '*)
		if on_host "${1#@host bench }"; then
			echo 'ok done' >&"$to_guest"
		else
			echo 'error see the log' >&"$to_guest"
		fi
		;;
	'@result '*) echo "${1#@result }" >>"$results" ;;
	'# '*) echo "${1#\# }" >&2 ;;
	'@done') return 1 ;;
	esac
}

[ ${#models[@]} != 0 ] || make_models || { say 'no models' && exit 2; }
if ! make_disk || ! make_initrd; then
	say 'no disk, or no initramfs'
	exit 1
fi
vdev_start "$vdev" "$work/vdev.sock" "$work/vdev.log" -d "$device" -t 1 || exit
qemu_unpu "$work/vdev.sock"
boot_suite "$work/console" "$work/qemu.log" "${unpu_device[@]}" \
	-drive "file=$work/disk,format=raw,if=virtio,readonly=on"
end_all
if ! grep -q '^guest' "$results" 2>/dev/null; then
	tail -n 20 "$work/console" "$work/vdev.log" "$work/qemu.log" >&2
	exit 1
fi

"$python" - "$results" <<'EOF_PYTHON'
import collections
import json
import statistics
import sys

runs = collections.defaultdict(lambda: collections.defaultdict(list))
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        who, model, text = line.split(" ", 2)
        values = json.loads(text)
        for what, key in (("decode", "decode_tps"), ("prompt", "prefill_tps")):
            runs[model, what][who].append(values[key]["median"])

print("| file | what | guest | host | ratio |\n| --- | --- | --- | --- | --- |")
low = False
for (model, what), by in sorted(runs.items()):
    cells = [f"{statistics.median(by[who]):.1f} ({min(by[who]):.1f} to {max(by[who]):.1f})"
             for who in ("guest", "host")]
    ratio = statistics.median(by["guest"]) / statistics.median(by["host"])
    low |= what == "decode" and ratio < 0.8
    print(f"| {model} | {what} | {cells[0]} | {cells[1]} | {ratio:.2f} |")
sys.exit(low)
EOF_PYTHON
