/* SPDX-License-Identifier: MIT */
/*
 * checkunpu: every inner function of the twins at every instruction set this machine has, against a
 * naive reference in double, bit for bit where ops.h defines the bits, between guard pages, with
 * signals caught. A family of functions is one file here; checkunpu.c holds the list.
 */
#ifndef UNPU_CHECKUNPU_H
#define UNPU_CHECKUNPU_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/half.h"
#include "runtime/device/cpu/ops.h"

struct ondevice;

/* One instruction set: its table, and the table of the one below (NULL for plain C). */
struct check_level {
	const struct unpu_cpu_ops *ops;
	const struct unpu_cpu_ops *below;
	/* Shaders run here, not on twins; NULL: they do not. Then ops is plain C. */
	struct ondevice *device;
	int only_matrices;	/* what the device's tuning has no part in was tried with another */
};

typedef void check_family_fn(const struct check_level *level);

check_family_fn check_mm, check_quantize, check_norm, check_act, check_attn, check_merge, check_max,
	check_shader;

/* ---- one function ------------------------------------------------------------------------- */

/*
 * Starts a function of this level. 0: the level has none of its own, or --function= does not name
 * it. Reseeds the random numbers from the seed and the name, so that it fails alone as in a full
 * run.
 */
int check_begin(const struct check_level *level, int own, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define CHECK_OWN(__level, __field) \
	(!(__level)->below || (__level)->ops->__field != (__level)->below->__field)

/* Records a failure of the current function; the first few are printed. */
void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* 0 after the first failures: a loop over cases may stop. */
int check_going_on(void);
void check_end(void);
/* How many of so many cases are tried: half of them on a device that compiles slowly. */
int check_cases(const struct check_level *level, int cases);

/* Runs a statement; a signal in it is a failure of the current function. */
#define CHECK_CALL(__statement) \
	do { \
		if (!sigsetjmp(check_jump, 1)) { \
			check_arm(1); \
			__statement; \
			check_arm(0); \
		} \
	} while (0)
extern sigjmp_buf check_jump;
void check_arm(int armed);

/* With --bench: what one call costs, per multiply-add and per byte (0: not shown). */
int check_benching(void);
void check_bench(const char *what, void (*call)(void *), void *arg, double macs, double bytes);

/* ---- random numbers ----------------------------------------------------------------------- */

uint32_t check_rand(void);
/* 0 <= result < n */
uint32_t check_below(uint32_t n);
float check_uniform(float low, float high);
/* About normal; now and then an outlier, as activations have. */
float check_activation(void);
/* Zeros, denormals, huge values, infinities and NaN: any bits. */
float check_any_float(void);

/* ---- memory ------------------------------------------------------------------------------- */

/*
 * `bytes` between two guard pages, against the front one or the back one; what is left of the pages
 * holds a pattern.
 */
struct check_buf {
	uint8_t *map;
	size_t map_bytes;
	uint8_t *data;
	size_t bytes;
};

enum check_side { CHECK_FRONT = 0, CHECK_BACK };

void *check_buf_init(struct check_buf *buf, size_t bytes, enum check_side side);
void check_buf_finish(struct check_buf *buf);
/* Fills data with the pattern. */
void check_buf_clear(struct check_buf *buf);
/* An input: a write into it is a failure. */
void check_buf_seal(struct check_buf *buf);
/* The pattern around data is whole. */
void check_buf_intact(const struct check_buf *buf, const char *what);
/* Four bytes that still hold the pattern. */
int check_untouched(const void *word);

/* ---- comparisons -------------------------------------------------------------------------- */

/* Equal bits, or both NaN. */
int check_same(float a, float b);
/* |got - want| <= bound; a NaN wanted must be got. */
int check_near(float got, double want, double bound);

#define CHECK_EPS	0x1p-24		/* of one rounding of an f32 */
#define CHECK_TINY	0x1p-125	/* where relative bounds end */

#endif
