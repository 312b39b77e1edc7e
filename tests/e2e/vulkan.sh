#!/bin/bash
# SPDX-License-Identifier: MIT
# The command on a Vulkan device. Environment besides lib.bash's: UNPU_ICD, the manifest of the
# implementation to take; UNPU_VALIDATE, a folder: everything runs under the validation layer, whose
# messages go there; UNPU_SHORT: only what depends on the implementation; UNPU_TEST_LONG: all
# limits profiles.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

hooked=${UNPU_BUILD:-$root/build}/tests/hooked/unpu
model=$shared/models/aidreams260k.gguf
golden=$shared/golden/aidreams260k.greedy
ids='1 303 281 269 435 447 275'

if [ ! -e "${UNPU_ICD:-}" ]; then
	skip vulkan 'no Vulkan implementation named'
	finish
fi
export VK_ICD_FILENAMES=$UNPU_ICD VK_DRIVER_FILES=$UNPU_ICD
export HOME=$work/home XDG_CACHE_HOME=$work/cache
mkdir -p "$HOME" "$XDG_CACHE_HOME"
if [ ! -x "$hooked" ]; then
	skip vulkan 'this build has no Vulkan'
	finish
fi

# ---- validation ----

# The layer writes a new file for each process, so it is judged after each: it was there, with
# synchronization validation, and said nothing else. The sandbox would keep it from its settings.
free=()
synchronization=VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
if [ -n "${UNPU_VALIDATE:-}" ]; then
	export VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LAYER_SETTINGS_PATH=$work
	free=(--no-sandbox)
	cat >"$work/vk_layer_settings.txt" <<-END
		khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
		khronos_validation.report_flags = error,warn,perf,info
		khronos_validation.log_filename = $work/validation
		khronos_validation.enables = $synchronization
	END
fi

is_valid() {
	local said=$work/validation
	grep -q 'Layer Active' "$said" && grep -q 'SYNCHRONIZATION_VALIDATION' "$said" || {
		echo 'the validation layer was not there'
		return 1
	}
	grep -q 'Validation \(Error\|Warning\|Performance\)\|^VUID\|SYNC-HAZARD' "$said" || return 0
	cp "$said" "$UNPU_VALIDATE/validation.$failed"
	grep -m1 'Validation \(Error\|Warning\|Performance\)\|^VUID\|SYNC-HAZARD' "$said"
	return 1
}

validated() { # $1: what ran
	[ -n "${UNPU_VALIDATE:-}" ] || return 0
	check "$1: nothing for the validation layer to say" is_valid
	rm -f "$work/validation"
}

# $1: what it is, the rest: arguments of the command.
vulkan() {
	local what=$1
	shift
	run "$@" -d vulkan:0 "${free[@]}"
	check "$what" is_quiet
	validated "$what"
}

# ---- a trained model ----

sed '1s/^ //' "$golden.txt" 2>/dev/null | head -c -1 >"$work/golden.txt"

golden_text() { # $1: what it is
	vulkan "$1" run "$model" -p 'I dream of' -n 64 --temp 0
	check "$1: the text" cmp "$work/golden.txt" "$work/out"
}

golden_ids() { # $1: what it is, the rest: more arguments
	local what=$1
	shift
	vulkan "$what" eval "$model" --tokens "$ids" --greedy 64 "$@"
	same "$what: the ids" "$(cat "$golden")" "$(cat "$work/out")"
}

if have_shared golden/aidreams260k.greedy 'aidreams260k on vulkan'; then
	golden_ids 'aidreams260k, ids'
	[ -n "${UNPU_SHORT:-}" ] || golden_text 'aidreams260k'
	unpu_plain=("${unpu[@]}")
	unpu=("$hooked")
	[ -n "${UNPU_SHORT:-}" ] ||
		UNPU_VK_LIMITS=v3d42 golden_ids 'aidreams260k as on v3d42'
	for profile in v3d71 mali-g31 adreno6xx-low; do
		[ -n "${UNPU_TEST_LONG:-}" ] || continue
		UNPU_VK_LIMITS=$profile golden_ids "aidreams260k as on $profile"
		UNPU_VK_LIMITS=$profile golden_text "aidreams260k as on $profile"
	done
	unpu=("${unpu_plain[@]}")
fi

# ---- tiny models ----

near() { # $1: logits wanted, $2: logits, $3: the tolerance by the greatest of the wanted
	"$python" -c '
import sys, numpy
want, got = (numpy.fromfile(name, "<f4") for name in sys.argv[1:3])
assert want.size == got.size > 0, (want.size, got.size)
off = abs(want.astype("f8") - got).max() / abs(want).max()
print("%.2g x max|logit|, allowed are %s" % (off, sys.argv[3]))
sys.exit(not off <= float(sys.argv[3]))
' "$@"
}

tokens='1 72 104 111 111 114 35 122 114 117 111 103 301 202 17 309'
# $1: architecture, $2: type, $3: KV, $4: tolerance: where the cpu rounds activations and the device
# need not, both may be 5e-2 from the truth.
against_cpu() {
	make_tiny "$1" "$2"
	run eval "$tiny" --tokens "$tokens" --logits "$work/want" --greedy 16 --kv "$3" -d cpu
	cp "$work/out" "$work/ids"
	vulkan "tiny $1 $2 --kv $3" eval "$tiny" --tokens "$tokens" --logits "$work/got" \
		--greedy 16 --kv "$3"
	check "tiny $1 $2 --kv $3: logits" near "$work/want" "$work/got" "$4"
	[ "$2" != f32 ] || check "tiny $1 $2 --kv $3: ids" cmp "$work/ids" "$work/out"
}
if have_python 'logits of tiny models' numpy; then
	for arch in llama gpt2 qwen2 qwen3; do
		[ -z "${UNPU_SHORT:-}" ] || continue
		against_cpu $arch f32 f32 2e-4
		against_cpu $arch f16 f16 5e-3
		against_cpu $arch q8_0 f16 1e-1
		against_cpu $arch q4_0 f16 1e-1
	done
	[ -z "${UNPU_SHORT:-}" ] || against_cpu llama q4_0 f16 1e-1
fi
[ -z "${UNPU_SHORT:-}" ] || finish

# Whatever the batch, the same tokens. More than one tile of rows, and not a whole number of them.
make_tiny llama f32
seq -s ' ' 3 53 >"$work/prompt"
run eval "$tiny" --tokens "$(cat "$work/prompt")" --greedy 8 -d cpu
cp "$work/out" "$work/ids"
for batch in 1 7 32; do
	vulkan "--batch $batch" eval "$tiny" --tokens "$(cat "$work/prompt")" --greedy 8 \
		--batch $batch
	check "--batch $batch: ids" cmp "$work/ids" "$work/out"
done

# ---- what it says ----

run run "$tiny" -p Hello -n 9 --temp 0 --stats -d vulkan:0 "${free[@]}"
same '--stats' 0 "$status"
check '--stats names the device' grep -qE '^device +vulkan:0, .' "$work/err"
validated '--stats'
run bench "$tiny" -p 8 -n 8 -r 1 --json -d vulkan:0 "${free[@]}"
same 'bench --json' 0 "$status"
check 'bench --json names the device' grep -q '"device": *"vulkan:0"' "$work/out"
validated 'bench --json'

# ---- Ctrl-C ----

# Greedy text of random weights soon turns in circles, of some seeds in one without an end.
exec 8</dev/null
status=
for seed in 1 2 3 4; do
	make_tiny llama f32 context=8192 seed=$seed
	env --default-signal=INT "${unpu[@]}" run "$tiny" -p Hello -n 8000 -c 8192 --temp 0 \
		-d vulkan:0 "${free[@]}" >"$work/out" 2>"$work/err" <&8 &
	pid=$!
	for _ in {1..1500}; do
		[ "$(stat -c %s "$work/out")" -lt 40 ] && kill -0 $pid 2>/dev/null || break
		sleep 0.02
	done
	kill -INT $pid 2>/dev/null || continue
	wait $pid
	status=$?
	break
done
same 'Ctrl-C ends with 130' 130 "$status"
check 'Ctrl-C: no error line' eval '! grep -q ^unpu: "$work/err"'
validated 'Ctrl-C'
unset VK_INSTANCE_LAYERS UNPU_VALIDATE

# ---- no such device ----

make_tiny llama f32
run run "$tiny" -p Hello -n 9 --temp 0 -d cpu
cp "$work/out" "$work/want"
run run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:7
check 'a device that is not there' is_one_line 1 'vulkan:7'
nowhere() { # $1: what is wrong
	run run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:0
	check "$1: -d vulkan:0" is_one_line 1 'vulkan:0'
	run run "$tiny" -p Hello -n 9 --temp 0 -d auto
	same "$1: -d auto" 0 "$status"
	check "$1: -d auto: the text" cmp "$work/want" "$work/out"
	run devices
	same "$1: unpu devices" 0 "$status"
	check "$1: unpu devices names the cpu" grep -q '^cpu ' "$work/out"
}
VK_ICD_FILENAMES=$work/nowhere.json VK_DRIVER_FILES=$work/nowhere.json nowhere 'no such manifest'
echo '{' >"$work/bad.json"
VK_ICD_FILENAMES=$work/bad.json VK_DRIVER_FILES=$work/bad.json nowhere 'a damaged manifest'
sed 's/"library_path": *"[^"]*"/"library_path": "libnowhere.so"/' "$UNPU_ICD" >"$work/gone.json"
VK_ICD_FILENAMES=$work/gone.json VK_DRIVER_FILES=$work/gone.json nowhere 'a driver that is gone'

# ---- the cache ----

same_text() { # $1: what is wrong
	run run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:0
	same "$1" 0 "$status"
	check "$1: the text" cmp "$work/want" "$work/out"
	check "$1: at most one line" [ "$(grep -c . "$work/err")" -le 1 ]
}
rm -rf "$XDG_CACHE_HOME"
same_text 'no cache yet'
mapfile -t caches < <(find "$XDG_CACHE_HOME" -name '*.cache' 2>/dev/null)
if [ ${#caches[@]} -gt 0 ]; then
	same_text 'a warm cache'
	for cache in "${caches[@]}"; do
		[ -e "$cache" ] || same_text 'the cache is made again'
		cp "$cache" "$work/cache.good" || continue
		head -c 100 "$work/cache.good" >"$cache"
		same_text 'a cache that is cut off'
		printf 'x' | dd of="$cache" bs=1 seek=140 conv=notrunc 2>/dev/null
		same_text 'a cache of other bytes'
		head -c 5000 /dev/urandom >"$cache"
		same_text 'a cache of noise'
		: >"$cache"
		same_text 'an empty cache'
		rm "$cache" && mkdir "$cache"
		same_text 'a cache that is a folder'
		rmdir "$cache"
	done
else
	fail 'a pipeline cache' "nothing in $XDG_CACHE_HOME"
fi
XDG_CACHE_HOME=/dev/null/none same_text 'no place for a cache'
(unset XDG_CACHE_HOME HOME
	"${unpu[@]}" run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:0 >"$work/out" 2>"$work/err")
same 'no HOME' 0 $?
check 'no HOME: the text' cmp "$work/want" "$work/out"
if unshare -rm true 2>/dev/null; then
	mkdir "$work/full"
	unshare -rm sh -c 'mount -t tmpfs -o size=4k none "$0" && {
		dd if=/dev/zero of="$0/x" bs=4096 count=9 2>/dev/null
		XDG_CACHE_HOME=$0
		# Mesa maps its own cache and dies of SIGBUS where the disk is full.
		MESA_SHADER_CACHE_DISABLE=true
		export XDG_CACHE_HOME MESA_SHADER_CACHE_DISABLE
		exec "$@"
	}' "$work/full" "${unpu[@]}" run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:0 \
		>"$work/out" 2>"$work/err" </dev/null
	same 'a full disk for the cache' 0 $?
	check 'a full disk for the cache: the text' cmp "$work/want" "$work/out"
else
	skip 'a full disk for the cache' 'no user namespaces here'
fi

# ---- a device that is small ----

unpu=("$hooked")
run run "$tiny" -p Hello -n 9 --temp 0 -d cpu
check 'the hooked command' cmp "$work/want" "$work/out"
# Banks: the embedding, 132 KiB, in pieces.
UNPU_VK_RANGE=65536 same_text 'ranges of 64 KiB'
# What is too large all the same is said with its size, and the cpu takes the model.
UNPU_VK_RANGE=4096 run run "$tiny" -p Hello -n 9 --temp 0 -d vulkan:0
check 'ranges of 4 KiB' is_one_line 0 'bytes, this device 4096 at most; going on on cpu'
check 'ranges of 4 KiB: the text' cmp "$work/want" "$work/out"
# Where weights are copied to the device, copies of 64 KiB at least are refused, not cut for ever.
UNPU_VK_TYPE=discrete UNPU_VK_RANGE=4096 run run "$tiny" -p Hello -n 9 -d vulkan:0
check 'a card of ranges of 4 KiB' is_one_line 1 'bytes, this device 4096 at most'

finish
