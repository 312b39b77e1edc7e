/* SPDX-License-Identifier: MIT */
/* Blocks of every quantised type: against the format's own words, and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/model/blocks.h"
#include "runtime/model/gguf.h"
#include "tests/lib/oracle.h"

static const uint32_t types[] = {
	UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0, UNPU_TYPE_Q4_1, UNPU_TYPE_Q5_0, UNPU_TYPE_Q5_1,
	UNPU_TYPE_IQ4_NL, UNPU_TYPE_Q4_K, UNPU_TYPE_Q5_K, UNPU_TYPE_Q6_K,
};
#define NUM_TYPES	(sizeof(types) / sizeof(types[0]))
#define ROW		768u	/* weights */

static uint64_t rng = 1;

static uint8_t random_byte(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint8_t)(rng >> 33);
}

static int same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

/* Any bytes, also scales that are no numbers. */
static void random_bytes_are_read(void **state)
{
	uint8_t file[ROW * 2 + 1], *row = file + 1;	/* the file's alignment is none */

	(void)state;
	for (size_t n = 0; n < 400 * NUM_TYPES; n++) {
		const uint32_t type = types[n % NUM_TYPES];

		for (size_t i = 0; i < sizeof(file); i++)
			file[i] = random_byte();
		for (uint32_t i = 0; i < ROW; i++) {
			double want = oracle_value(type, row, i), have;
			struct unpu_block block;

			unpu_block_read(type, row, i / 32, &block);
			have = (double)block.scale[i % 32 / 16] * block.q[i % 32] +
			       (double)block.offset;
			if (!same(have, want) ||
			    (isfinite(want) &&
			     (double)unpu_block_weight(&block, i % 32) != (double)(float)want))
				fail_msg("%s: weight %u: %.17g, not %.17g", unpu_type_name(type), i,
					 have, want);
		}
	}
}

struct known {
	uint32_t type, i;
	double value;
};

static void check_known(const struct known *known, size_t count, const uint8_t *row)
{
	for (size_t n = 0; n < count; n++) {
		struct unpu_block block;

		unpu_block_read(known[n].type, row, known[n].i / 32, &block);
		if ((double)unpu_block_weight(&block, known[n].i % 32) != known[n].value)
			fail_msg("%s: weight %u: %g, not %g", unpu_type_name(known[n].type),
				 known[n].i, (double)unpu_block_weight(&block, known[n].i % 32),
				 known[n].value);
		if (oracle_value(known[n].type, row, known[n].i) != known[n].value)
			fail_msg("the reference has another %s", unpu_type_name(known[n].type));
	}
}

/* 0x3800 is 0.5, 0xbc00 is -1, 0x4000 is 2. */
static void blocks_of_32(void **state)
{
	static const uint8_t q4_1[20] = { 0x00, 0x38, 0x00, 0xbc, 0xf0, 0x2c };
	static const struct known of_q4_1[] = {
		{ UNPU_TYPE_Q4_1, 0, -1 }, { UNPU_TYPE_Q4_1, 16, 6.5 },
		{ UNPU_TYPE_Q4_1, 1, 5 }, { UNPU_TYPE_Q4_1, 17, 0 },
	};
	/* fifth bits of weights 0, 9, 16 and 31 */
	static const uint8_t q5_0[22] = { 0x00, 0x38, 0x01, 0x02, 0x01, 0x80, 0x3f };
	static const struct known of_q5_0[] = {
		{ UNPU_TYPE_Q5_0, 0, 7.5 }, { UNPU_TYPE_Q5_0, 16, 1.5 }, { UNPU_TYPE_Q5_0, 1, -8 },
		{ UNPU_TYPE_Q5_0, 9, 0 }, { UNPU_TYPE_Q5_0, 31, 0 }, { UNPU_TYPE_Q5_0, 30, -8 },
	};
	static const uint8_t q5_1[24] = { 0x00, 0x38, 0x00, 0xbc, 0x01, 0x02, 0x01, 0x80, 0x3f };
	static const struct known of_q5_1[] = {
		{ UNPU_TYPE_Q5_1, 0, 14.5 }, { UNPU_TYPE_Q5_1, 16, 8.5 }, { UNPU_TYPE_Q5_1, 1, -1 },
		{ UNPU_TYPE_Q5_1, 9, 7 }, { UNPU_TYPE_Q5_1, 31, 7 },
	};
	static const uint8_t iq4_nl[18] = { 0x00, 0x40, 0xf0, 0x78 };
	static const struct known of_iq4_nl[] = {
		{ UNPU_TYPE_IQ4_NL, 0, -254 }, { UNPU_TYPE_IQ4_NL, 16, 226 },
		{ UNPU_TYPE_IQ4_NL, 1, 2 }, { UNPU_TYPE_IQ4_NL, 17, -20 },
	};

	(void)state;
	check_known(of_q4_1, 4, q4_1);
	check_known(of_q5_0, 6, q5_0);
	check_known(of_q5_1, 5, q5_1);
	check_known(of_iq4_nl, 4, iq4_nl);
}

/* Of sub-block 4 the scale is 53 = 5 + 3 * 16, of 7 48 = 0 + 3 * 16, and its minimum 2 + 16. */
static const uint8_t scales[12] = { 1 | 3 << 6, 2, 3, 63 | 3 << 6, 5, 0, 0, 63 | 1 << 6, 5, 0, 0,
				    2 << 4 };

static void scales_of_6_bits(void **state)
{
	static const uint8_t scale[8] = { 1, 2, 3, 63, 53, 0, 0, 48 };
	static const uint8_t min[8] = { 5, 0, 0, 63, 0, 0, 0, 18 };

	(void)state;
	for (uint32_t j = 0; j < 8; j++) {
		uint8_t s, m;

		unpu_block_k_scale(scales, j, &s, &m);
		assert_int_equal(s, scale[j]);
		assert_int_equal(m, min[j]);
	}
}

static void superblocks(void **state)
{
	static const struct known of_q4_k[] = {
		{ UNPU_TYPE_Q4_K, 0, 0.5 * 1 * 15 + 5 }, { UNPU_TYPE_Q4_K, 32, 0.5 * 2 * 2 },
		{ UNPU_TYPE_Q4_K, 64, 0 }, { UNPU_TYPE_Q4_K, 127, 0.5 * 63 * 9 + 63 },
		{ UNPU_TYPE_Q4_K, 128, 0.5 * 53 * 4 }, { UNPU_TYPE_Q4_K, 255, 0.5 * 48 * 1 + 18 },
	};
	static const struct known of_q5_k[] = {
		{ UNPU_TYPE_Q5_K, 0, 0.5 * 1 * 31 + 5 }, { UNPU_TYPE_Q5_K, 32, 0.5 * 2 * 2 },
		{ UNPU_TYPE_Q5_K, 127, 0.5 * 63 * 9 + 63 },
		{ UNPU_TYPE_Q5_K, 255, 0.5 * 48 * 17 + 18 },
	};
	static const struct known of_q6_k[] = {
		{ UNPU_TYPE_Q6_K, 0, -2.0 * (15 + 48 - 32) }, { UNPU_TYPE_Q6_K, 64, 2.0 * -31 },
		{ UNPU_TYPE_Q6_K, 255, 0.5 * -128 * (4 + 32 - 32) },
		{ UNPU_TYPE_Q6_K, 16, 0 },
	};
	uint8_t q4_k[144] = { 0x00, 0x38, 0x00, 0xbc }, q5_k[176] = { 0x00, 0x38, 0x00, 0xbc };
	uint8_t q6_k[210] = { 0 };

	(void)state;
	memcpy(q4_k + 4, scales, 12);
	q4_k[16] = 0x2f;	/* weights 0 and 32 */
	q4_k[16 + 63] = 0x90;	/* 95 and 127 */
	q4_k[16 + 64] = 0x04;	/* 128 and 160 */
	q4_k[16 + 127] = 0x10;	/* 223 and 255 */
	check_known(of_q4_k, 6, q4_k);
	memcpy(q5_k + 4, scales, 12);
	memcpy(q5_k + 48, q4_k + 16, 128);
	q5_k[16] = 0x01;	/* weight 0 */
	q5_k[16 + 31] = 0x80;	/* 255 */
	check_known(of_q5_k, 4, q5_k);
	q6_k[0] = 0x1f;		/* weights 0 and 64 */
	q6_k[127] = 0x40;	/* 191 and 255 */
	q6_k[128] = 0x03;	/* weight 0 */
	q6_k[128 + 63] = 0x80;	/* 255 */
	q6_k[192] = (uint8_t)-4;
	q6_k[192 + 4] = 4;	/* of weights 64 to 79 */
	q6_k[192 + 15] = 0x80;
	q6_k[209] = 0x38;
	check_known(of_q6_k, 4, q6_k);
}

static void types_are_known(void **state)
{
	uint32_t count = 0;

	(void)state;
	for (uint32_t type = 0; type < 64; type++)
		count += unpu_block_type(type) ? 1 : 0;
	assert_int_equal(count, NUM_TYPES);
	for (size_t i = 0; i < NUM_TYPES; i++)
		assert_true(unpu_block_type(types[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_bytes_are_read),
		cmocka_unit_test(blocks_of_32),
		cmocka_unit_test(scales_of_6_bits),
		cmocka_unit_test(superblocks),
		cmocka_unit_test(types_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
