/* SPDX-License-Identifier: MIT */
/*
 * Dispatches on a device instead of a twin: a program of one dispatch through the calls of
 * struct unpu_device_ops, its buffers copied in and out, with guard bands of NaN on both sides.
 */
#ifndef UNPU_TESTS_ONDEVICE_H
#define UNPU_TESTS_ONDEVICE_H

#include <stdint.h>

#include "shaders/shaders.h"

struct ondevice;
struct ondevice_program;

#define ONDEVICE_MAX_TUNINGS	48
#define ONDEVICE_TUNING		32

/*
 * The tunings of "vulkan:N" for all types and classes, each once, and those that it can run but
 * would not choose. 1: there is no such device, -1: it does not say; a line on stdout said why.
 */
int ondevice_tunings(const char *id, char (*tunings)[ONDEVICE_TUNING], uint32_t *count);
/* tuning: NULL, or one of those. NULL after a line that says why. */
struct ondevice *ondevice_open(const char *id, const char *tuning);
void ondevice_close(struct ondevice *device);

/* "vulkan:0-f32/128" */
const char *ondevice_name(const struct ondevice *device);
/* Whether this tuning has a part in matrices of this layout and class. */
int ondevice_matrix(const struct ondevice *device, uint32_t layout, uint32_t numeric);
int ondevice_kv(const struct ondevice *device, uint32_t kv_type);
/* Rows of a result depend on nothing but their inputs. */
int ondevice_pure(const struct ondevice *device);
/* Products of quantised and f16 weights are rounded to f16. */
int ondevice_half(const struct ondevice *device);

/* What the call before has refused, or found wrong. */
const char *ondevice_why(const struct ondevice *device);

/* NULL: refused. */
struct ondevice_program *ondevice_program_create(struct ondevice *device, uint32_t kind,
						 const void *spec, const void *constants,
						 const struct unpu_shader_need *need);
void ondevice_program_destroy(struct ondevice_program *program);
/*
 * One run on the bytes that data[b] points to, as many as the shader needs. 0, or -1 when the job
 * failed, or something has changed that the shader does not write; -2: the device is lost.
 */
int ondevice_program_run(struct ondevice_program *program, void *const *data);

#endif
