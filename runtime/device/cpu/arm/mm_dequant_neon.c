/* SPDX-License-Identifier: MIT */
/*
 * Class f32 over quantised panels: a lane is a k % 4, each weight rounded to f32 first: q * d,
 * d * (sc * q) - dmin * m, d * (sc * q) or s * q + o, as its family has it.
 */
#include "runtime/device/cpu/arm/neon.h"

enum bits { Q4, Q4_FLIPPED, Q4_UNSIGNED, Q6, Q8 };	/* FLIPPED: q - 8 in two's complement */

/* What a twin is made for, all of it constant in it. */
struct kind {
	int family;		/* enum unpu_family */
	enum bits bits;
	int k16;		/* order K16, else K4 */
};

/* Half a panel against 1 to 4 tokens: 4 rows, quad 0 or 1. */
struct quad {
	const uint8_t *w, *scales;	/* of the panel */
	int quad;
	const float *x;
	uint64_t ldx;
	float *y;
	uint64_t ldy;
};

/* Of 4 rows of a block: weight = a * (by * q) + o; [0] is for the first 16 k, [1] the others. */
struct factors {
	int32_t by[2][4];
	float a[2][4], o[4];
};

NEON_INLINE size_t block_bytes(struct kind kind)
{
	return kind.bits == Q8 ? 256 : kind.bits == Q6 ? 192 : 128;
}

/* ---- scales ------------------------------------------------------------------------------- */

NEON_INLINE float32x4_t load_half4(const uint8_t *p)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)p)));
}

/* Block b of the panel whose scales begin at p. */
NEON_INLINE void load_factors(const uint8_t *p, size_t b, int quad, struct kind kind,
			      struct factors *f)
{
	const uint8_t *sc;
	float32x4_t min;

	switch (kind.family) {
	case UNPU_FAMILY_Q:
		vst1q_f32(f->a[0], load_half4(p + 16 * b + 8 * quad));
		memcpy(f->a[1], f->a[0], sizeof(f->a[0]));
		break;
	case UNPU_FAMILY_Q8A:
		p += 96 * b + 16 * quad;
		memcpy(f->a[0], p, 16);
		memcpy(f->a[1], p + 32, 16);
		memcpy(f->o, p + 64, 16);
		break;
	case UNPU_FAMILY_Q6K:
		p += b / 8 * 144;
		sc = p + 16 + b % 8 * 16 + 4 * quad;
		vst1q_f32(f->a[0], load_half4(p + 8 * quad));
		memcpy(f->a[1], f->a[0], sizeof(f->a[0]));
		for (int r = 0; r < 4; r++) {
			f->by[0][r] = (int8_t)sc[r];
			f->by[1][r] = (int8_t)sc[8 + r];
		}
		break;
	default:
		p += b / 8 * 160;
		sc = p + 32 + b % 8 * 16 + 4 * quad;
		vst1q_f32(f->a[0], load_half4(p + 8 * quad));
		memcpy(f->a[1], f->a[0], sizeof(f->a[0]));
		for (int r = 0; r < 4; r++) {
			f->by[0][r] = f->by[1][r] = sc[r];
			f->o[r] = sc[8 + r];
		}
		min = vmulq_f32(load_half4(p + 16 + 8 * quad), vld1q_f32(f->o));
		vst1q_f32(f->o, vnegq_f32(min));
	}
}

/* ---- quants ------------------------------------------------------------------------------- */

/* 16 nibbles of the bytes at w, of the upper halves if `high`. */
NEON_INLINE int8x16_t nibbles(const uint8_t *w, int high, enum bits bits)
{
	uint8x16_t q = vld1q_u8(w);

	if (bits == Q4) {
		int8x16_t s = vreinterpretq_s8_u8(high ? q : vshlq_n_u8(q, 4));

		return vshrq_n_s8(s, 4);
	}
	if (bits == Q4_FLIPPED)
		q = veorq_u8(q, vdupq_n_u8(0x88));
	return vreinterpretq_s8_u8(high ? vshrq_n_u8(q, 4) : vandq_u8(q, vdupq_n_u8(15)));
}

/* With the two bits at `shift` of the bytes at h above them, less 32. */
NEON_INLINE int8x16_t six_bits(const uint8_t *w, int high, const uint8_t *h, int shift)
{
	uint8x16_t low = vreinterpretq_u8_s8(nibbles(w, high, Q6));
	uint8x16_t bits = vshlq_u8(vld1q_u8(h), vdupq_n_s8((int8_t)(4 - shift)));
	uint8x16_t q = vorrq_u8(low, vandq_u8(bits, vdupq_n_u8(0x30)));

	return vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(32));
}

/*
 * 16 of the 128 quants of 4 rows and 32 k (w: the panel's block). K16: row i / 2, k 16 * (i % 2)
 * on; K4: 4 rows, 4 k from 4 * i on.
 */
NEON_INLINE int8x16_t quants(const uint8_t *w, int i, int quad, struct kind kind)
{
	int high = kind.k16 ? i % 2 : i / 4;
	const uint8_t *at = w + (kind.k16 ? 64 * quad + 16 * (i / 2) : 32 * (i % 4) + 16 * quad);

	if (kind.bits == Q8)
		return vreinterpretq_s8_u8(vld1q_u8(w + (kind.k16 ? 128 * quad + 16 * i :
							 32 * i + 16 * quad)));
	if (kind.bits != Q6)
		return nibbles(at, high, kind.bits);
	if (kind.k16)
		return six_bits(at, high, w + 128 + 16 * (i / 2), 4 * quad + 2 * high);
	return six_bits(at, high, w + 128 + 32 * (i % 2) + 16 * quad,
			4 * (i % 4 / 2) + 2 * high);
}

/* ---- products ----------------------------------------------------------------------------- */

NEON_INLINE void widen(int8x16_t q, int32x4_t wide[4])
{
	int16x8_t low = vmovl_s8(vget_low_s8(q)), high = vmovl_high_s8(q);

	wide[0] = vmovl_s16(vget_low_s16(low));
	wide[1] = vmovl_high_s16(low);
	wide[2] = vmovl_s16(vget_low_s16(high));
	wide[3] = vmovl_high_s16(high);
}

/* Four weights of row r, of the first or the second 16 k. */
NEON_INLINE float32x4_t weights(int32x4_t q, const struct factors *f, int r, int half,
				struct kind kind)
{
	if (kind.family == UNPU_FAMILY_Q4K || kind.family == UNPU_FAMILY_Q6K)
		q = vmulq_n_s32(q, f->by[half][r]);
	if (kind.family == UNPU_FAMILY_Q4K || kind.family == UNPU_FAMILY_Q8A)
		return vfmaq_n_f32(vdupq_n_f32(f->o[r]), vcvtq_f32_s32(q), f->a[half][r]);
	return vmulq_n_f32(vcvtq_f32_s32(q), f->a[half][r]);
}

/* acc[t][r] += the block, in order of k in each row. */
NEON_INLINE void block(const struct quad *p, const uint8_t *w, const struct factors *f,
		       const float *x, float32x4_t acc[4][4], int tokens, struct kind kind)
{
	NEON_UNROLL
	for (int i = 0; i < 8; i++) {
		int32x4_t q[4];

		widen(quants(w, i, p->quad, kind), q);
		NEON_UNROLL
		for (int j = 0; j < 4; j++) {
			int r = kind.k16 ? i / 2 : j;
			int k = kind.k16 ? 16 * (i % 2) + 4 * j : 4 * i;
			float32x4_t v = weights(q[j], f, r, k / 16, kind);

			NEON_UNROLL
			for (int t = 0; t < tokens; t++)
				acc[t][r] = vfmaq_f32(acc[t][r], v,
						      vld1q_f32(x + t * p->ldx + k));
		}
	}
}

NEON_INLINE void quad(const struct quad *p, size_t blocks, int tokens, struct kind kind)
{
	float32x4_t acc[4][4] = { 0 };

	for (size_t b = 0; b < blocks; b++) {
		struct factors f;

		load_factors(p->scales, b, p->quad, kind, &f);
		block(p, p->w + b * block_bytes(kind), &f, p->x + 32 * b, acc, tokens, kind);
	}
	for (int t = 0; t < tokens; t++) {
		float32x4_t s01 = vpaddq_f32(acc[t][0], acc[t][1]);
		float32x4_t s23 = vpaddq_f32(acc[t][2], acc[t][3]);

		vst1q_f32(p->y + t * p->ldy, vpaddq_f32(s01, s23));
	}
}

NEON_INLINE void walk(const struct unpu_mm_args *a, struct kind kind)
{
	const struct unpu_layout_info *info = unpu_layout_info(a->layout);
	size_t blocks = unpu_pad32(a->k) / 32;
	size_t scale_bytes = blocks / (info->group / 32) * 8 * info->scales;

	for (uint32_t row = a->row0; row < a->row1; row += 4) {
		struct quad p = {
			.w = (const uint8_t *)a->quants + row / 8 * blocks * block_bytes(kind),
			.scales = (const uint8_t *)a->scales + row / 8 * scale_bytes,
			.quad = row / 4 % 2,
			.x = a->x, .ldx = a->ldx,
			.y = a->y + (row - a->row0), .ldy = a->ldy,
		};
		uint32_t t = 0;

		for (; a->tokens - t >= 4; t += 4) {
			quad(&p, blocks, 4, kind);
			p.x += 4 * p.ldx;
			p.y += 4 * p.ldy;
		}
		for (; t < a->tokens; t++) {
			quad(&p, blocks, 1, kind);
			p.x += p.ldx;
			p.y += p.ldy;
		}
	}
	neon_clear_padding(a);
}

#define TWIN(name, ...)									\
	void name(const struct unpu_mm_args *a)						\
	{										\
		walk(a, (struct kind){ __VA_ARGS__ });					\
	}

TWIN(unpu_mm_q8_r8_k16_neon, UNPU_FAMILY_Q, Q8, 1)
TWIN(unpu_mm_q8_r8_k4_neon, UNPU_FAMILY_Q, Q8, 0)
TWIN(unpu_mm_q4_r8_k16_neon, UNPU_FAMILY_Q, Q4, 1)
TWIN(unpu_mm_q4_r8_k4_neon, UNPU_FAMILY_Q, Q4, 0)
TWIN(unpu_mm_q4k_r8_k16_neon, UNPU_FAMILY_Q4K, Q4_FLIPPED, 1)
TWIN(unpu_mm_q4k_r8_k4u_neon, UNPU_FAMILY_Q4K, Q4_UNSIGNED, 0)
TWIN(unpu_mm_q6k_r8_k16_neon, UNPU_FAMILY_Q6K, Q6, 1)
TWIN(unpu_mm_q6k_r8_k4_neon, UNPU_FAMILY_Q6K, Q6, 0)
TWIN(unpu_mm_q8a_r8_k16_neon, UNPU_FAMILY_Q8A, Q8, 1)
TWIN(unpu_mm_q8a_r8_k4_neon, UNPU_FAMILY_Q8A, Q8, 0)
