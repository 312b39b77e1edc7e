/* SPDX-License-Identifier: MIT */
/*
 * B goes through two buffers that all threads fill, UNPU_GEMM_K rows at a time; each thread then
 * takes its own rows of A, one tile high, and walks over B's panels, which stay in the second-level
 * cache. A is packed only when it is turned, or less than a tile is left of it. Every element of C
 * is a sum in the order of k, whoever computes it.
 */
#include "train/gemm.h"

#include <string.h>

size_t unpu_gemm_packed_floats(const struct unpu_train_ops *ops, uint32_t n)
{
	return (size_t)UNPU_GEMM_K * ((n + ops->nr - 1) / ops->nr * ops->nr);
}

size_t unpu_gemm_own_floats(const struct unpu_train_ops *ops)
{
	return (size_t)UNPU_GEMM_K * ops->mr;
}

/* out[k][width] from `count` rows of src that lie `ld` apart; zeros where there is no row. */
static void pack_rows(const float *src, size_t ld, uint32_t count, uint32_t width, uint32_t k,
		      float *out)
{
	if (count < width)
		memset(out, 0, (size_t)k * width * sizeof(*out));
	for (uint32_t r = 0; r < count; r++)
		for (uint32_t i = 0; i < k; i++)
			out[(size_t)i * width + r] = src[r * ld + i];
}

/* The same from a matrix whose rows are k: they are copied. */
static void pack_columns(const float *src, size_t ld, uint32_t count, uint32_t width, uint32_t k,
			 float *out)
{
	for (uint32_t i = 0; i < k; i++, src += ld, out += width) {
		memcpy(out, src, count * sizeof(*out));
		memset(out + count, 0, (width - count) * sizeof(*out));
	}
}

/* Operand rows (or columns of a turned one) [at, at + count), inputs [k0, k0 + k). */
static void pack(const float *p, size_t ld, bool rows_lie, uint32_t at, uint32_t count,
		 uint32_t width, uint32_t k0, uint32_t k, float *out)
{
	if (rows_lie)
		pack_rows(p + at * ld + k0, ld, count, width, k, out);
	else
		pack_columns(p + k0 * ld + at, ld, count, width, k, out);
}

static void pack_b(const struct unpu_member *me, const struct unpu_gemm *g, uint32_t k0, uint32_t k,
		   float *packed)
{
	const uint32_t nr = me->team->ops->nr;
	size_t at, last;

	unpu_member_share(me, g->n, nr, &at, &last);
	for (; at < last; at += nr)
		pack(g->b, g->ldb, g->turn_b, (uint32_t)at,
		     g->n - at < nr ? g->n - (uint32_t)at : nr, nr, k0, k, packed + at * k);
}

struct a_tile {
	const float *a;
	size_t row, step;
	uint32_t at, rows;
};

static void walk_b(const struct unpu_member *me, const struct unpu_gemm *g,
		   const struct a_tile *t, uint32_t k, const float *packed, bool add)
{
	const struct unpu_train_ops *ops = me->team->ops;

	for (uint32_t at = 0; at < g->n; at += ops->nr)
		ops->tile(t->a, t->row, t->step, packed + (size_t)at * k, k,
			  g->c + t->at * g->ldc + at, g->ldc, t->rows,
			  g->n - at < ops->nr ? g->n - at : ops->nr, add);
}

static struct a_tile take_a(const struct unpu_member *me, const struct unpu_gemm *g, size_t at,
			    size_t last, uint32_t k0, uint32_t k)
{
	const uint32_t mr = me->team->ops->mr, left = (uint32_t)(last - at);
	float *own = me->team->own[me->thread];
	struct a_tile t = { own, 1, mr, (uint32_t)at, left < mr ? left : mr };

	if (g->turn_a || left < mr) {
		pack(g->a, g->lda, !g->turn_a, t.at, t.rows, mr, k0, k, own);
		return t;
	}
	t.a = g->a + at * g->lda + k0;
	t.row = g->lda;
	t.step = 1;
	return t;
}

void unpu_gemm(const struct unpu_member *me, const struct unpu_gemm *g)
{
	size_t first, last;
	uint32_t turn = 0;

	unpu_member_share(me, g->m, me->team->ops->mr, &first, &last);
	for (uint32_t k0 = 0; k0 < g->k; k0 += UNPU_GEMM_K, turn ^= 1) {
		uint32_t k = g->k - k0 < UNPU_GEMM_K ? g->k - k0 : UNPU_GEMM_K;
		float *packed = me->team->packed[turn];

		pack_b(me, g, k0, k, packed);
		unpu_member_wait(me);
		for (size_t at = first; at < last; at += me->team->ops->mr) {
			struct a_tile t = take_a(me, g, at, last, k0, k);

			walk_b(me, g, &t, k, packed, g->add || k0);
		}
	}
	/* The next product fills the first buffer again. */
	unpu_member_wait(me);
}
