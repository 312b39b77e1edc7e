// SPDX-License-Identifier: MIT
//
// The guest of peer_insns.sh, linked to the peer's ggml: matrix products of one thread between
// marks, through ggml's own front door, so that what it repacks it does as in its programs. Prints
// for each cell: number, type, tokens, multiply-adds.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>
#include <vector>

#include "ggml.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "tests/bench/insncount.h"

namespace {

// Where the weights of its programs lie: the first of the extra buffers that takes the product.
ggml_backend_buffer_type_t place(ggml_backend_dev_t dev, ggml_tensor *product)
{
	auto *reg = ggml_backend_dev_backend_reg(dev);
	auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
		ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts"));
	auto *types = extra ? extra(dev) : nullptr;

	for (; types && *types; types++) {
		auto *weights = product->src[0];

		weights->buffer = ggml_backend_buft_alloc_buffer(*types, 0);
		bool takes = ggml_backend_dev_supports_op(dev, product);
		ggml_backend_buffer_free(weights->buffer);
		weights->buffer = nullptr;
		if (takes)
			return *types;
	}
	return ggml_backend_cpu_buffer_type();
}

void put(ggml_backend_buffer_type_t type, ggml_tensor *t)
{
	auto *buffer = ggml_backend_buft_alloc_buffer(type, ggml_backend_buft_get_alloc_size(type, t));
	std::vector<uint8_t> zeros(ggml_nbytes(t));

	ggml_backend_tensor_alloc(buffer, t, ggml_backend_buffer_get_base(buffer));
	ggml_backend_tensor_set(t, zeros.data(), 0, zeros.size());
}

int64_t product(ggml_backend_t backend, ggml_type type, int64_t k, int64_t rows, int64_t tokens,
		long cell)
{
	ggml_init_params params = { 1 << 20, nullptr, true };
	auto *ctx = ggml_init(params);
	auto *weights = ggml_new_tensor_2d(ctx, type, k, rows);
	auto *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, k, tokens);
	auto *y = ggml_mul_mat(ctx, weights, x);
	auto *graph = ggml_new_graph(ctx);

	put(place(ggml_backend_get_device(backend), y), weights);
	put(ggml_backend_cpu_buffer_type(), x);
	put(ggml_backend_cpu_buffer_type(), y);
	ggml_build_forward_expand(graph, y);
	ggml_backend_graph_compute(backend, graph);
	syscall(INSNCOUNT_MARK, INSNCOUNT_BEGIN, cell);
	ggml_backend_graph_compute(backend, graph);
	syscall(INSNCOUNT_MARK, INSNCOUNT_END, cell);
	ggml_free(ctx);
	return k * rows * tokens;
}

}  // namespace

// Arguments: rows, k, k of the K types.
int main(int argc, char **argv)
{
	static const ggml_type types[] = { GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K,
					   GGML_TYPE_Q6_K };
	auto *backend = ggml_backend_cpu_init();
	long cell = 0;

	if (argc != 4)
		return 2;
	ggml_backend_cpu_set_n_threads(backend, 1);
	for (auto type : types) {
		int64_t k = atoll(argv[ggml_blck_size(type) == 256 ? 3 : 2]);

		for (int64_t tokens = 1; tokens <= 4; tokens += 3) {
			for (int64_t times = 1; times <= 2; times++) {
				int64_t macs = product(backend, type, k, times * atoll(argv[1]),
						       tokens, cell);

				printf("%ld %s %d %lld\n", cell++, ggml_type_name(type),
				       static_cast<int>(tokens), static_cast<long long>(macs));
			}
		}
	}
	return 0;
}
