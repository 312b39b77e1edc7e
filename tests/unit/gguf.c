/* SPDX-License-Identifier: MIT */
/* The reader of GGUF files: what it gives, and each sentence with which it refuses a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/model/gguf.h"
#include "tests/lib/tiny.h"

/* ---- files ------------------------------------------------------------------------------ */

struct raw {
	uint8_t *data;
	size_t size;
};

static void add_bytes(struct raw *r, const void *data, size_t size)
{
	/* Always to the exact size, so that ASan sees a read past the file. */
	r->data = realloc(r->data, r->size + size + !size);
	assert_non_null(r->data);
	memcpy(r->data + r->size, data, size);
	r->size += size;
}

static void add_int(struct raw *r, uint64_t value, int size)
{
	int i;

	for (i = 0; i < size; i++, value >>= 8)
		add_bytes(r, &(uint8_t){ (uint8_t)value }, 1);
}

/* s: string with its length, b, h, i, q: integers of 1, 2, 4, 8 bytes, f, d: floats, z: so many
 * zero bytes, p: zeros up to a multiple of 32. */
static void add(struct raw *r, const char *format, ...)
{
	va_list args;
	const char *text;
	uint64_t bits;
	float f;
	double d;
	int n;

	va_start(args, format);
	for (; *format; format++) {
		switch (*format) {
		case 's':
			text = va_arg(args, const char *);
			add_int(r, strlen(text), 8);
			add_bytes(r, text, strlen(text));
			break;
		case 'b':
		case 'h':
		case 'i':
			n = *format == 'b' ? 1 : *format == 'h' ? 2 : 4;
			add_int(r, va_arg(args, uint32_t), n);
			break;
		case 'q':
			add_int(r, va_arg(args, uint64_t), 8);
			break;
		case 'f':
			f = (float)va_arg(args, double);
			add_bytes(r, &f, 4);
			break;
		case 'd':
			d = va_arg(args, double);
			memcpy(&bits, &d, 8);
			add_int(r, bits, 8);
			break;
		case 'z':
			for (n = va_arg(args, int); n; n--)
				add_int(r, 0, 1);
			break;
		case 'p':
			while (r->size % 32)
				add_int(r, 0, 1);
			break;
		}
	}
	va_end(args);
}

#define Q(x)	((uint64_t)(x))

static struct raw header(uint64_t tensors, uint64_t kvs)
{
	struct raw r = { 0 };

	add_bytes(&r, "GGUF", 4);
	add(&r, "iqq", 3, tensors, kvs);
	return r;
}

struct heard {
	int errors, others;
	char text[512];
};

static void hear(void *arg, enum unpu_log_level level, const char *text)
{
	struct heard *heard = arg;

	if (level == UNPU_LOG_ERROR)
		heard->errors++;
	else
		heard->others++;
	snprintf(heard->text, sizeof(heard->text), "%s", text);
}

static struct heard heard;
static const struct unpu_log log_heard = { hear, &heard };

static struct unpu_gguf *open_raw(const struct raw *r)
{
	struct unpu_gguf *gguf = NULL;

	memset(&heard, 0, sizeof(heard));
	if (unpu_gguf_create(r->data, r->size, &log_heard, &gguf))
		fail_msg("refused: %s", heard.text);
	assert_int_equal(heard.errors + heard.others, 0);
	return gguf;
}

/* One sentence, and what it says. Frees the file. */
static void refused(struct raw r, const char *says)
{
	struct unpu_gguf *gguf = (void *)&heard;

	memset(&heard, 0, sizeof(heard));
	assert_int_equal(unpu_gguf_create(r.data, r.size, &log_heard, &gguf), -EINVAL);
	assert_ptr_equal(gguf, &heard);
	assert_int_equal(heard.errors, 1);
	assert_int_equal(heard.others, 0);
	if (!strstr(heard.text, says))
		fail_msg("'%s' does not say '%s'", heard.text, says);
	assert_null(strchr(heard.text, '\n'));
	free(r.data);
}

/* ---- refusals: header and keys ---------------------------------------------------------- */

static void test_header(void **state)
{
	struct raw r = { 0 };

	(void)state;
	add(&r, "");
	refused(r, "not a GGUF file");
	r = (struct raw){ 0 };
	add_bytes(&r, "GGU", 3);
	refused(r, "not a GGUF file");
	r = (struct raw){ 0 };
	add_bytes(&r, "GGJT\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
	refused(r, "not a GGUF file");
	r = (struct raw){ 0 };
	add_bytes(&r, "FUGG\0\0\0\3", 8);
	refused(r, "big-endian");
	r = (struct raw){ 0 };
	add_bytes(&r, "GGUF\0\0\0\3", 8);
	add(&r, "qq", Q(0), Q(0));
	refused(r, "big-endian");
	r = header(0, 0);
	r.data[4] = 1;
	refused(r, "GGUF version 1 is not supported; versions 2 and 3 are");
	r = header(0, 0);
	r.data[4] = 0;
	refused(r, "GGUF version 0 is not supported");
	r = header(0, 0);
	r.size = 23;
	refused(r, "cut within its header of 24 bytes");
	refused(header(1, 0), "says it holds 1 tensors; its 24 bytes cannot");
	refused(header(0, UINT64_MAX), "says it holds 18446744073709551615 keys");
	refused(header(UINT64_MAX, 0), "says it holds 18446744073709551615 tensors");
}

static void test_keys(void **state)
{
	struct raw r;

	(void)state;
	r = header(0, 2);
	add(&r, "sibz", "a", UNPU_GGUF_U8, 1, 14);
	r.data[r.size - 14] = 7;
	refused(r, "cut in the name of key 1 of 2");
	r = header(0, 1);
	add(&r, "siz", "", UNPU_GGUF_U8, 4);
	refused(r, "key 0 has a name of 0 bytes");
	r = header(0, 1);
	add(&r, "sib", "a_key", UNPU_GGUF_U8, 1);
	r.data[24 + 8 + 2] = 0;
	refused(r, "key 0 ('a_?ey') has a NUL in its name");
	r = header(0, 1);
	add(&r, "sz", "a_key", 2);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siz", "a_key", 13, 8);
	refused(r, "key 'a_key' has the unknown value type 13");
	r = header(0, 1);
	add(&r, "sih", "a_key", UNPU_GGUF_U32, 1);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siqz", "a_key", UNPU_GGUF_STRING, Q(5), 4);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "sib", "a_key", UNPU_GGUF_BOOL, 2);
	refused(r, "key 'a_key' has a bool of value 2");
	r = header(0, 2);
	add(&r, "sibsib", "a_key", UNPU_GGUF_U8, 1, "a_key", UNPU_GGUF_BOOL, 1);
	refused(r, "key 'a_key' is there twice");
	r = header(0, 1);
	add(&r, "sii", "general.architecture", UNPU_GGUF_U32, 1);
	refused(r, "key 'general.architecture' is of type u32, not string");
	r = header(0, 1);
	add(&r, "siiqs", "general.name", UNPU_GGUF_ARRAY, UNPU_GGUF_STRING, Q(1), "a name");
	refused(r, "key 'general.name' is of type array of string, not string");
	/* What a terminal would obey does not reach it. */
	r = header(0, 1);
	add(&r, "sib", "\x1b[2J\n\xff", UNPU_GGUF_BOOL, 2);
	refused(r, "key '?[2J?\?' has");
}

static void test_arrays(void **state)
{
	struct raw r;

	(void)state;
	r = header(0, 1);
	add(&r, "siiz", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_U8, 7);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siiqz", "a_key", UNPU_GGUF_ARRAY, 99, Q(1), 8);
	refused(r, "key 'a_key' has the unknown value type 99");
	r = header(0, 1);
	add(&r, "siiqz", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_ARRAY, Q(1), 20);
	refused(r, "key 'a_key' is an array of arrays");
	r = header(0, 1);
	add(&r, "siiqz", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_U32, Q(1) << 62, 20);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siiqz", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_F32, Q(5), 19);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siiqs", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_STRING, Q(UINT64_MAX), "x");
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siiqsqz", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_STRING, Q(2), "x", Q(9), 8);
	refused(r, "cut in the value of key 'a_key'");
	r = header(0, 1);
	add(&r, "siiqbbb", "a_key", UNPU_GGUF_ARRAY, UNPU_GGUF_BOOL, Q(3), 1, 0, 3);
	refused(r, "key 'a_key' has a bool of value 3");
}

static void test_alignment(void **state)
{
	static const uint32_t bad[] = { 0, 1, 4, 24, 33, 1u << 21, 1u << 31, UINT32_MAX };
	struct raw r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = header(0, 1);
		add(&r, "sii", "general.alignment", UNPU_GGUF_U32, bad[i]);
		refused(r, "it must be a power of two from 8 to 1048576");
	}
	r = header(0, 1);
	add(&r, "sii", "general.alignment", UNPU_GGUF_U32, 64);
	refused(r, "general.alignment is 64, more than the file's 57 bytes");
	r = header(0, 1);
	add(&r, "sis", "general.alignment", UNPU_GGUF_STRING, "32");
	refused(r, "key 'general.alignment' is of type string, not an integer");
	r = header(0, 1);
	add(&r, "siq", "general.alignment", UNPU_GGUF_I64, Q(-32));
	refused(r, "key 'general.alignment' is -32;");
}

/* ---- refusals: tensors ------------------------------------------------------------------ */

/* One tensor and bytes of data. */
static struct raw tensor(const char *name, uint64_t d0, uint64_t d1, uint32_t type,
			 uint64_t offset, int bytes)
{
	struct raw r = header(1, 0);

	add(&r, "siqqiqpz", name, 2, d0, d1, type, offset, bytes);
	return r;
}

static void test_tensor_table(void **state)
{
	char name[140];
	struct raw r;

	(void)state;
	r = header(1, 0);
	add(&r, "qz", Q(500), 40);
	refused(r, "cut in the name of tensor 0 of 1");
	refused(tensor("", 8, 1, 0, 0, 32), "tensor 0 has a name of 0 bytes");
	memset(name, 'n', 128);
	name[128] = 0;
	refused(tensor(name, 8, 1, 0, 0, 32), "tensor 0 has a name of 128 bytes");
	r = tensor("a.weight", 8, 1, 0, 0, 32);
	r.data[24 + 8 + 1] = 0;
	refused(r, "tensor 0 ('a?weight') has a NUL");
	r = header(1, 0);
	add(&r, "sz", "a.weight.of.a.long.name.to.fill", 2);
	refused(r, "cut in the description of tensor 'a.weight.of");
	r = header(1, 0);
	add(&r, "siqz", "a.weight", 4, Q(1), 12);
	refused(r, "cut in the description of tensor 'a.weight'");
	r = header(1, 0);
	add(&r, "siz", "a.weight", 0, 60);
	refused(r, "tensor 'a.weight' has 0 dimensions; 1 to 4 are allowed");
	r = header(1, 0);
	add(&r, "siz", "a.weight", 5, 60);
	refused(r, "tensor 'a.weight' has 5 dimensions");
	r = header(1, 0);
	add(&r, "siqqiq", "a.weight", 2, Q(8), Q(1), 0, Q(0));
	refused(r, "cut before the data of its 1 tensors");
	r = header(2, 0);
	add(&r, "siqiqsiqiqpz", "a", 1, Q(1), 0, Q(0), "b", 1, Q(1), 0, Q(32), 32);
	refused(r, "cut before the data of its 2 tensors");
}

static void test_tensor_shape(void **state)
{
	(void)state;
	refused(tensor("a", 0, 1, 0, 0, 32), "tensor 'a': dimension 0 is 0");
	refused(tensor("a", 8, 0, 0, 0, 32), "tensor 'a': dimension 1 is 0");
	refused(tensor("a", Q(1) << 32, Q(1) << 31, 0, 0, 32), "more than 2^63 elements");
	refused(tensor("a", Q(1) << 32, Q(1) << 32, 0, 0, 32), "more than 2^63 elements");
	refused(tensor("a", INT64_MAX, 1, 0, 0, 32), "more than 2^64 bytes");
	refused(tensor("a", 8, 1, 4, 0, 32), "tensor 'a' has the unknown type 4; supported are "
		"F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL");
	refused(tensor("a", 8, 1, UINT32_MAX, 0, 32), "the unknown type 4294967295");
	refused(tensor("a", 33, 2, UNPU_TYPE_Q8_0, 0, 99),
		"rows of 33 elements, not a multiple of the 32 of type Q8_0");
	refused(tensor("a", 128, 1, 12, 0, 999), "not a multiple of the 256 of type Q4_K");
	refused(tensor("a", 288, 2, 13, 0, 999), "rows of 288 elements, not a multiple of the 256 "
		"of type Q5_K");
	refused(tensor("a", 257, 1, 14, 0, 999), "not a multiple of the 256 of type Q6_K");
	refused(tensor("a", 48, 1, 20, 0, 999), "not a multiple of the 32 of type IQ4_NL");
}

static void test_tensor_place(void **state)
{
	struct raw r;

	(void)state;
	refused(tensor("a", 8, 1, 0, 16, 96), "offset 16 is not a multiple of the alignment 32");
	refused(tensor("a", 8, 1, 0, 64, 95), "cut in the data of tensor 'a': 32 bytes at "
		"offset 64, the file has");
	refused(tensor("a", 8, 1, 0, Q(-32), 96), "cut in the data of tensor 'a'");
	refused(tensor("a", Q(1) << 60, 1, 0, 0, 96), "cut in the data of tensor 'a'");
	refused(tensor("a", 256, 2, 14, 0, 419), "cut in the data of tensor 'a': 420 bytes");
	r = header(2, 0);
	add(&r, "siqiqsiqiqpz", "a", 1, Q(9), 0, Q(0), "b", 1, Q(8), 0, Q(32), 64);
	refused(r, "the data of tensors 'a' and 'b' overlap");
	r = header(2, 0);
	add(&r, "siqiqsiqiqpz", "b", 1, Q(8), 0, Q(32), "a", 1, Q(1), 0, Q(32), 64);
	refused(r, "overlap");
	r = header(2, 0);
	add(&r, "siqiqsiqiqpz", "a", 1, Q(8), 0, Q(0), "a", 1, Q(8), 0, Q(32), 64);
	refused(r, "tensor 'a' is there twice");
}

/* ---- what it gives ---------------------------------------------------------------------- */

static void test_types(void **state)
{
	(void)state;
	assert_string_equal(unpu_type_info(UNPU_TYPE_Q8_0)->name, "Q8_0");
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q8_0)->bytes, 34);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q4_0)->bytes, 18);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q4_0)->block, 32);
	assert_int_equal(unpu_type_info(UNPU_TYPE_F32)->bytes, 4);
	assert_int_equal(unpu_type_info(UNPU_TYPE_F16)->bytes, 2);
	assert_int_equal(unpu_type_info(UNPU_TYPE_BF16)->bytes, 2);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q4_K)->bytes, 144);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q5_K)->bytes, 176);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q6_K)->bytes, 210);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q6_K)->block, 256);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q4_1)->bytes, 20);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q5_0)->bytes, 22);
	assert_int_equal(unpu_type_info(UNPU_TYPE_Q5_1)->bytes, 24);
	assert_int_equal(unpu_type_info(UNPU_TYPE_IQ4_NL)->bytes, 18);
	assert_null(unpu_type_info(10));
	assert_null(unpu_type_info(4));
	assert_null(unpu_type_info(UINT32_MAX));
	assert_string_equal(unpu_type_name(12), "Q4_K");
	assert_string_equal(unpu_type_name(39), "MXFP4");
	assert_null(unpu_type_name(5));
	assert_null(unpu_type_name(40));
}

static void test_str(void **state)
{
	char text[100];

	(void)state;
	assert_true(unpu_str_is((struct unpu_str){ "abc", 2 }, "ab"));
	assert_false(unpu_str_is((struct unpu_str){ "abc", 2 }, "abc"));
	assert_true(unpu_str_is((struct unpu_str){ NULL, 0 }, ""));
	memset(text, 'x', sizeof(text));
	assert_int_equal(strlen(unpu_str_text((struct unpu_str){ text, 67 }).text), 67);
	assert_string_equal(unpu_str_text((struct unpu_str){ text, 68 }).text + 62, "xx...");
	assert_string_equal(unpu_str_text((struct unpu_str){ "a\0~\x7f\x80", 5 }).text, "a?~?\?");
	assert_string_equal(unpu_str_text((struct unpu_str){ NULL, 0 }).text, "");
}

static struct raw all_kinds(void)
{
	struct raw r = header(0, 15);

	add(&r, "sib", "u8", UNPU_GGUF_U8, 200);
	add(&r, "sib", "i8", UNPU_GGUF_I8, -100);
	add(&r, "sih", "u16", UNPU_GGUF_U16, 40000);
	add(&r, "sih", "i16", UNPU_GGUF_I16, -30000);
	add(&r, "sii", "u32", UNPU_GGUF_U32, UINT32_MAX);
	add(&r, "sii", "i32", UNPU_GGUF_I32, INT32_MIN);
	add(&r, "siq", "u64", UNPU_GGUF_U64, Q(UINT64_MAX));
	add(&r, "siq", "i64", UNPU_GGUF_I64, Q(INT64_MIN));
	add(&r, "sif", "f32", UNPU_GGUF_F32, 0.5);
	add(&r, "sid", "f64", UNPU_GGUF_F64, -0.25);
	add(&r, "sid", "big", UNPU_GGUF_F64, 1e300);
	add(&r, "sib", "yes", UNPU_GGUF_BOOL, 1);
	add(&r, "sis", "text", UNPU_GGUF_STRING, "some text");
	add(&r, "siiqhh", "array", UNPU_GGUF_ARRAY, UNPU_GGUF_I16, Q(2), 7, -8);
	add(&r, "siiqsss", "texts", UNPU_GGUF_ARRAY, UNPU_GGUF_STRING, Q(3), "one", "", "three");
	return r;
}

static void expect_u32(const struct unpu_gguf *gguf, const char *key, uint32_t want)
{
	uint32_t value = ~want;

	assert_int_equal(unpu_gguf_u32(gguf, key, 0, UINT32_MAX, &value), 0);
	assert_int_equal(value, want);
}

static void expect_refused(int err, const char *says)
{
	assert_int_equal(err, -EINVAL);
	assert_int_equal(heard.errors, 1);
	if (!strstr(heard.text, says))
		fail_msg("'%s' does not say '%s'", heard.text, says);
	heard.errors = 0;
}

static void test_integers(void **state)
{
	struct raw r = all_kinds();
	struct unpu_gguf *gguf = open_raw(&r);
	uint32_t v = 77;

	(void)state;
	expect_u32(gguf, "u8", 200);
	expect_u32(gguf, "u16", 40000);
	expect_u32(gguf, "u32", UINT32_MAX);
	assert_int_equal(unpu_gguf_u32(gguf, "u3", 0, 9, &v), -ENOENT);
	assert_int_equal(unpu_gguf_u32(gguf, "u322", 0, 9, &v), -ENOENT);
	assert_int_equal(heard.errors, 0);
	expect_refused(unpu_gguf_u32(gguf, "u8", 201, 300, &v), "'u8' is 200; 201 to 300");
	expect_refused(unpu_gguf_u32(gguf, "u8", 0, 199, &v), "'u8' is 200; 0 to 199");
	expect_refused(unpu_gguf_u32(gguf, "i8", 0, 9, &v), "'i8' is -100;");
	expect_refused(unpu_gguf_u32(gguf, "i16", 0, 9, &v), "'i16' is -30000;");
	expect_refused(unpu_gguf_u32(gguf, "i32", 0, 9, &v), "'i32' is -2147483648;");
	expect_refused(unpu_gguf_u32(gguf, "i64", 0, 9, &v), "'i64' is -9223372036854775808;");
	expect_refused(unpu_gguf_u32(gguf, "u64", 0, ~0u, &v), "'u64' is 18446744073709551615;");
	expect_refused(unpu_gguf_u32(gguf, "f32", 0, 9, &v), "'f32' is of type f32, not an int");
	expect_refused(unpu_gguf_u32(gguf, "yes", 0, 9, &v), "of type bool, not an integer");
	expect_refused(unpu_gguf_u32(gguf, "array", 0, 9, &v), "of type array of i16, not an int");
	assert_int_equal(v, 77);
	unpu_gguf_destroy(gguf);
	free(r.data);
}

static void test_values(void **state)
{
	struct raw r = all_kinds();
	struct unpu_gguf *gguf = open_raw(&r);
	struct unpu_str str;
	bool yes = false;
	float f = 0;

	(void)state;
	assert_int_equal(unpu_gguf_f32(gguf, "f32", &f), 0);
	assert_true(f == 0.5f);
	assert_int_equal(unpu_gguf_f32(gguf, "f64", &f), 0);
	assert_true(f == -0.25f);
	assert_int_equal(unpu_gguf_f32(gguf, "big", &f), 0);
	assert_true(isinf(f));
	assert_int_equal(unpu_gguf_f32(gguf, "none", &f), -ENOENT);
	expect_refused(unpu_gguf_f32(gguf, "u32", &f), "'u32' is of type u32, not f32");
	assert_int_equal(unpu_gguf_bool(gguf, "yes", &yes), 0);
	assert_true(yes);
	assert_int_equal(unpu_gguf_bool(gguf, "none", &yes), -ENOENT);
	expect_refused(unpu_gguf_bool(gguf, "u8", &yes), "'u8' is of type u8, not bool");
	assert_int_equal(unpu_gguf_str(gguf, "text", &str), 0);
	assert_true(unpu_str_is(str, "some text"));
	assert_int_equal(unpu_gguf_str(gguf, "none", &str), -ENOENT);
	expect_refused(unpu_gguf_str(gguf, "f64", &str), "'f64' is of type f64, not string");
	assert_int_equal(unpu_gguf_size(gguf), r.size);
	assert_int_equal(unpu_gguf_num_tensors(gguf), 0);
	assert_null(unpu_gguf_tensor_at(gguf, 0));
	assert_null(unpu_gguf_tensor(gguf, "text"));
	unpu_gguf_destroy(gguf);
	free(r.data);
}

static void test_array_values(void **state)
{
	struct raw r = all_kinds();
	struct unpu_gguf *gguf = open_raw(&r);
	struct unpu_gguf_strings strings;
	const void *data;
	struct unpu_str str;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(unpu_gguf_array(gguf, "array", UNPU_GGUF_I16, &data, &n), 0);
	assert_int_equal(n, 2);
	assert_memory_equal(data, "\x07\x00\xf8\xff", 4);
	assert_int_equal(unpu_gguf_array(gguf, "none", UNPU_GGUF_I16, &data, &n), -ENOENT);
	expect_refused(unpu_gguf_array(gguf, "array", UNPU_GGUF_F32, &data, &n),
		       "'array' is of type array of i16, not array of f32");
	expect_refused(unpu_gguf_array(gguf, "u8", UNPU_GGUF_U8, &data, &n),
		       "'u8' is of type u8, not array of u8");
	assert_int_equal(unpu_gguf_strings(gguf, "texts", &strings, &n), 0);
	assert_int_equal(n, 3);
	assert_true(unpu_gguf_strings_next(&strings, &str) && unpu_str_is(str, "one"));
	assert_true(unpu_gguf_strings_next(&strings, &str) && unpu_str_is(str, ""));
	assert_true(unpu_gguf_strings_next(&strings, &str) && unpu_str_is(str, "three"));
	assert_false(unpu_gguf_strings_next(&strings, &str));
	assert_false(unpu_gguf_strings_next(&strings, &str));
	expect_refused(unpu_gguf_strings(gguf, "array", &strings, &n), "not array of string");
	assert_int_equal(unpu_gguf_strings(gguf, "none", &strings, &n), -ENOENT);
	unpu_gguf_destroy(gguf);
	free(r.data);
}

static void test_tensors(void **state)
{
	struct raw r = header(3, 1);
	const struct unpu_tensor *t;
	struct unpu_gguf *gguf;

	(void)state;
	r.data[4] = 2;
	add(&r, "sih", "general.alignment", UNPU_GGUF_U16, 8);
	add(&r, "siqqqqiq", "z", 4, Q(2), Q(1), Q(3), Q(1), UNPU_TYPE_F16, Q(40));
	add(&r, "siqqiq", "a.weight", 2, Q(32), Q(1), UNPU_TYPE_Q8_0, Q(0));
	add(&r, "siqiq", "k", 1, Q(256), 10, Q(56));
	while (r.size % 8)
		add(&r, "b", 0);
	add(&r, "z", 56 + 84);
	gguf = open_raw(&r);
	assert_int_equal(unpu_gguf_num_tensors(gguf), 3);
	t = unpu_gguf_tensor_at(gguf, 0);
	assert_ptr_equal(t, unpu_gguf_tensor(gguf, "z"));
	assert_ptr_equal(t->data, r.data + r.size - 140 + 40);
	assert_int_equal(t->bytes, 12);
	assert_int_equal(t->num_dims, 4);
	assert_int_equal(t->dims[2], 3);
	t = unpu_gguf_tensor(gguf, "a.weight");
	assert_ptr_equal(t, unpu_gguf_tensor_at(gguf, 1));
	assert_int_equal(t->type, UNPU_TYPE_Q8_0);
	assert_int_equal(t->bytes, 34);
	assert_int_equal(t->dims[3], 1);
	assert_true(unpu_str_is(t->name, "a.weight"));
	t = unpu_gguf_tensor(gguf, "k");
	assert_int_equal(t->type, 10);	/* Q2_K, which is known and no more */
	assert_int_equal(t->bytes, 0);
	assert_null(unpu_gguf_tensor(gguf, "a.weigh"));
	assert_null(unpu_gguf_tensor(gguf, ""));
	assert_null(unpu_gguf_tensor_at(gguf, 3));
	unpu_gguf_destroy(gguf);
	free(r.data);
}

static void test_nobody_listens(void **state)
{
	struct unpu_log mute = { NULL, NULL };
	struct raw r = all_kinds();
	struct unpu_gguf *gguf;
	uint32_t v;

	(void)state;
	assert_int_equal(unpu_gguf_create("GGUF", 4, NULL, &gguf), -EINVAL);
	assert_int_equal(unpu_gguf_create("GGUF", 4, &mute, &gguf), -EINVAL);
	assert_int_equal(unpu_gguf_create(r.data, r.size, NULL, &gguf), 0);
	assert_int_equal(unpu_gguf_u32(gguf, "f32", 0, 1, &v), -EINVAL);
	unpu_gguf_destroy(gguf);
	unpu_gguf_destroy(NULL);
	free(r.data);
}

/* ---- many, and anywhere ----------------------------------------------------------------- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Time must grow with the file's size, not with its square. */
static void test_many(void **state)
{
	enum { N = 50000 };
	size_t room = 24 + N * 30 + N * 80 + 32 + N * 32, size, at = 24, start;
	uint8_t *data = calloc(1, room);
	struct unpu_gguf *gguf;
	double begin = seconds();
	char name[32];
	uint32_t i;

	(void)state;
	assert_non_null(data);
	memcpy(data, "GGUF\3\0\0\0", 8);
	memcpy(data + 8, &(uint64_t){ N }, 8);
	memcpy(data + 16, &(uint64_t){ N }, 8);
	for (i = 0; i < N; i++) {
		data[at] = snprintf((char *)data + at + 8, 32, "key.%u", i * 7919 % N);
		at += 8 + data[at] + 4;
		data[at++] = 1;
	}
	for (i = 0; i < N; i++) {
		data[at] = snprintf((char *)data + at + 8, 32, "blk.%u.w", i * 7919 % N);
		at += 8 + data[at];
		memcpy(data + at, &(uint32_t){ 1 }, 4);
		memcpy(data + at + 4, &(uint64_t){ 8 }, 8);
		memcpy(data + at + 16, &(uint64_t){ (uint64_t)(N - 1 - i) * 32 }, 8);
		at += 24;
	}
	start = (at + 31) / 32 * 32;
	size = start + N * 32;
	assert_true(size <= room);
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(unpu_gguf_create(data, size, &log_heard, &gguf), 0);
	for (i = 0; i < N; i += 7) {
		snprintf(name, sizeof(name), "blk.%u.w", i * 7919 % N);
		assert_ptr_equal(unpu_gguf_tensor(gguf, name)->data,
				 data + start + (size_t)(N - 1 - i) * 32);
		snprintf(name, sizeof(name), "key.%u", i);
		expect_u32(gguf, name, 1);
	}
	unpu_gguf_destroy(gguf);
	free(data);
	assert_true(seconds() - begin < 20);
}

/* A file within a larger one begins at no particular address. */
static void test_unaligned(void **state)
{
	struct tiny_params p = { .arch = "llama", .type = UNPU_TYPE_Q4_0, .seed = 1 };
	char path[] = "/tmp/unpu-gguf-XXXXXX";
	const struct unpu_tensor *a, *b;
	struct unpu_gguf *gguf, *shifted;
	uint8_t *data, *map;
	size_t size, shift, i;
	int fd;

	(void)state;
	data = tiny_model(&p, &size);
	assert_non_null(data);
	assert_int_equal(unpu_gguf_create(data, size, NULL, &gguf), 0);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	for (shift = 1; shift < 4100; shift = 3 * shift + 2) {
		assert_int_equal(pwrite(fd, data, size, shift), size);
		map = mmap(NULL, shift + size, PROT_READ, MAP_PRIVATE, fd, 0);
		assert_true(map != MAP_FAILED);
		assert_int_equal(unpu_gguf_create(map + shift, size, NULL, &shifted), 0);
		for (i = 0; (a = unpu_gguf_tensor_at(gguf, i)); i++) {
			b = unpu_gguf_tensor_at(shifted, i);
			assert_int_equal(a->bytes, b->bytes);
			assert_memory_equal(a->data, b->data, a->bytes);
		}
		unpu_gguf_destroy(shifted);
		munmap(map, shift + size);
	}
	close(fd);
	unpu_gguf_destroy(gguf);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_tensor_table),
		cmocka_unit_test(test_tensor_shape),
		cmocka_unit_test(test_tensor_place),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_array_values),
		cmocka_unit_test(test_tensors),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_unaligned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
