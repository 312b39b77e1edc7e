/* SPDX-License-Identifier: MIT */
/* Rows of floats to the types of a file. */
#ifndef UNPU_TRAIN_QUANTIZE_H
#define UNPU_TRAIN_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* F32, F16, Q8_0 and Q4_0; k is a multiple of the type's block. Bytes of a row. */
bool unpu_quantize_type(uint32_t type, uint32_t k);
size_t unpu_quantize_bytes(uint32_t type, uint32_t k);

/*
 * One row. Q8_0: d = max |x| / 127, q nearest. Q4_0: of scales about the one that takes the largest
 * weight to -8 or 7, that whose squares of errors have the least sum.
 */
void unpu_quantize_row(uint32_t type, const float *x, uint32_t k, void *out);

#endif
