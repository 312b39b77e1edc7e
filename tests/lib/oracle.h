/* SPDX-License-Identifier: MIT */
/*
 * The reference: a plain forward pass in double on dequantised weights. Independent of the twins,
 * of plan/ and of device/; it reads a struct unpu_arch and nothing else of the runtime.
 */
#ifndef UNPU_TESTS_ORACLE_H
#define UNPU_TESTS_ORACLE_H

#include "runtime/model/arch.h"

/* Logits after each of n ids: n x vocab doubles. 0 or -ENOMEM. */
int oracle_logits(const struct unpu_arch *arch, const uint32_t *ids, size_t n, double *logits);
/* The same with another GELU than the exact one of the tanh form. */
typedef double oracle_gelu_fn(double x);
int oracle_logits_gelu(const struct unpu_arch *arch, const uint32_t *ids, size_t n,
		       oracle_gelu_fn *gelu, double *logits);
/* The same with every head of K and V rounded as a cache rounds it. */
typedef void oracle_kv_fn(double *head, uint32_t n);
oracle_kv_fn oracle_kv_f16, oracle_kv_int8;
int oracle_logits_kv(const struct unpu_arch *arch, const uint32_t *ids, size_t n, oracle_kv_fn *kv,
		     double *logits);
/* To the nearest f16, for values that are one. */
double oracle_f16(double x);
/* Value i of a row in a type of the file, by the words of the format. */
double oracle_value(uint32_t type, const uint8_t *row, uint64_t i);
/* One row of a tensor, dequantised. */
void oracle_row(const struct unpu_tensor *tensor, uint64_t row, double *out);

#endif
