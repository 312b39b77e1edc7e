#!/bin/bash
# SPDX-License-Identifier: MIT
# llama.cpp's instructions per multiply-add, counted as insns.sh counts ours: the same compiler,
# emulator, plugin and shapes. tests/bench/peer_insns.sh PEER_SRC [BUILD_DIR]: PEER_SRC is its
# source tree, built for aarch64 with and without dotprod in BUILD_DIR (build/peer-insns). What
# another 192 rows cost counts, so that quantising the activations and starting drop out. Needs
# aarch64-linux-gnu-g++, cmake and ninja besides.
set -eu
src=$(realpath "$1")
cd "$(dirname "$0")/../.."
mkdir -p "${2:-build/peer-insns}"
out=$(realpath "${2:-build/peer-insns}") cross=aarch64-linux-gnu-

cc -std=gnu11 -O2 -I. -shared -fPIC -o "$out/insncount.so" tests/bench/insncount.c
# A snapshot may lack what only an installation needs.
mkdir -p "$out/src"
cp -ru "$src/ggml/." "$out/src/"
[ -e "$out/src/ggml.pc.in" ] || : >"$out/src/ggml.pc.in"

build() { # name, -march
	cmake -S "$out/src" -B "$out/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release \
		-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_C_COMPILER=${cross}gcc -DCMAKE_CXX_COMPILER=${cross}g++ \
		-DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH="$2" -DGGML_OPENMP=OFF \
		-DGGML_LLAMAFILE=ON -DBUILD_SHARED_LIBS=OFF -DGGML_BUILD_TESTS=OFF \
		-DGGML_BUILD_EXAMPLES=OFF &&
		nice ninja -C "$out/$1" ggml ggml-cpu ggml-base &&
		${cross}g++ -std=c++17 -O2 -I. -I"$out/src/include" -o "$out/$1/guest" \
			tests/bench/peer_insns.cpp "$out/$1"/src/libggml.a \
			"$(find "$out/$1" -name libggml-cpu.a)" "$out/$1"/src/libggml-base.a \
			-lpthread -lm -ldl
}

table() { # name, processor
	qemu-aarch64 -L /usr/${cross%-} -cpu "$2" \
		-plugin "$out/insncount.so,out=$out/$1.counts" "$out/$1/guest" 192 576 768 \
		>"$out/$1.cells" 2>>"$out/$1.log"
	awk -v name="$1" '
		FNR == NR { if ($1 == "cell") count[$2] = $3; next }
		{ key = $2 " " $3 }
		key in macs { figure[key] = (count[$1] - counted[key]) / ($4 - macs[key])
			if (!($2 in seen)) order[++n] = $2
			seen[$2] = 1 }
		!(key in macs) { macs[key] = $4; counted[key] = count[$1] }
		END { for (i = 1; i <= n; i++)
			printf "%-14s %-6s %8.3f %9.3f\n", name, order[i], figure[order[i] " 1"],
				figure[order[i] " 4"] }' "$out/$1.counts" "$out/$1.cells"
}

build neon armv8-a >"$out/neon.log" 2>&1 || { tail -n 20 "$out/neon.log" >&2; exit 1; }
build neon_dotprod armv8.2-a+dotprod >"$out/neon_dotprod.log" 2>&1 ||
	{ tail -n 20 "$out/neon_dotprod.log" >&2; exit 1; }
printf '%-14s %-6s %8s %9s\n' '' type '1 token' '4 tokens'
table neon cortex-a72
table neon_dotprod cortex-a76
