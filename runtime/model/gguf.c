/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"

#define HEADER_BYTES	24	/* magic, version, tensor count, key count */
#define KV_MIN_BYTES	14	/* key length, one byte of key, type, one byte of value */
#define TENSOR_MIN_BYTES 33	/* name length, one byte, dimension count, one, type, offset */
#define KEY_MAX		65535	/* the format's own limit */
#define NAME_MAX_BYTES	127	/* the format says 64; some writers go past it */
#define ALIGN_DEFAULT	32
/* The format wants a multiple of 8. Each tensor then takes 41 bytes of the file or more, which is
 * what holds the tensor table within twice the file's size. */
#define ALIGN_MIN	8u
#define ALIGN_MAX	(1u << 20)

struct unpu_gguf {
	const uint8_t *data;
	uint64_t size;
	struct unpu_log log;
	uint32_t *kvs;			/* offsets of the keys, in the order of their bytes */
	uint32_t num_kvs;
	uint32_t num_tensors;
	struct unpu_tensor *tensors;	/* in the file's order */
	uint32_t *names;		/* indices into tensors, in the order of the names */
};

/* ---- types ------------------------------------------------------------------------------ */

/* Sizes of all, so that a file of an unsupported type is still checked against its length. */
static const struct {
	struct unpu_type_info info;
	bool supported;
} types[] = {
	[0] = { { "F32", 1, 4 }, true },
	[1] = { { "F16", 1, 2 }, true },
	[2] = { { "Q4_0", 32, 18 }, true },
	[3] = { { "Q4_1", 32, 20 }, true },
	[6] = { { "Q5_0", 32, 22 }, true },
	[7] = { { "Q5_1", 32, 24 }, true },
	[8] = { { "Q8_0", 32, 34 }, true },
	[9] = { { "Q8_1", 32, 36 }, false },
	[10] = { { "Q2_K", 256, 84 }, false },
	[11] = { { "Q3_K", 256, 110 }, false },
	[12] = { { "Q4_K", 256, 144 }, true },
	[13] = { { "Q5_K", 256, 176 }, true },
	[14] = { { "Q6_K", 256, 210 }, true },
	[15] = { { "Q8_K", 256, 292 }, false },
	[16] = { { "IQ2_XXS", 256, 66 }, false },
	[17] = { { "IQ2_XS", 256, 74 }, false },
	[18] = { { "IQ3_XXS", 256, 98 }, false },
	[19] = { { "IQ1_S", 256, 50 }, false },
	[20] = { { "IQ4_NL", 32, 18 }, true },
	[21] = { { "IQ3_S", 256, 110 }, false },
	[22] = { { "IQ2_S", 256, 82 }, false },
	[23] = { { "IQ4_XS", 256, 136 }, false },
	[24] = { { "I8", 1, 1 }, false },
	[25] = { { "I16", 1, 2 }, false },
	[26] = { { "I32", 1, 4 }, false },
	[27] = { { "I64", 1, 8 }, false },
	[28] = { { "F64", 1, 8 }, false },
	[29] = { { "IQ1_M", 256, 56 }, false },
	[30] = { { "BF16", 1, 2 }, true },
	[31] = { { "Q4_0_4_4", 32, 18 }, false },
	[32] = { { "Q4_0_4_8", 32, 18 }, false },
	[33] = { { "Q4_0_8_8", 32, 18 }, false },
	[34] = { { "TQ1_0", 256, 54 }, false },
	[35] = { { "TQ2_0", 256, 66 }, false },
	[36] = { { "IQ4_NL_4_4", 32, 18 }, false },
	[37] = { { "IQ4_NL_4_8", 32, 18 }, false },
	[38] = { { "IQ4_NL_8_8", 32, 18 }, false },
	[39] = { { "MXFP4", 32, 17 }, false },
};

static const struct unpu_type_info *type_known(uint32_t type)
{
	if (type >= sizeof(types) / sizeof(types[0]) || !types[type].info.name)
		return NULL;
	return &types[type].info;
}

const struct unpu_type_info *unpu_type_info(uint32_t type)
{
	const struct unpu_type_info *info = type_known(type);

	return info && types[type].supported ? info : NULL;
}

const char *unpu_type_name(uint32_t type)
{
	const struct unpu_type_info *info = type_known(type);

	return info ? info->name : NULL;
}

static const struct {
	const char *name;
	uint8_t bytes;	/* 0: not of fixed width */
} value_types[] = {
	[UNPU_GGUF_U8] = { "u8", 1 },
	[UNPU_GGUF_I8] = { "i8", 1 },
	[UNPU_GGUF_U16] = { "u16", 2 },
	[UNPU_GGUF_I16] = { "i16", 2 },
	[UNPU_GGUF_U32] = { "u32", 4 },
	[UNPU_GGUF_I32] = { "i32", 4 },
	[UNPU_GGUF_F32] = { "f32", 4 },
	[UNPU_GGUF_BOOL] = { "bool", 1 },
	[UNPU_GGUF_STRING] = { "string", 0 },
	[UNPU_GGUF_ARRAY] = { "array", 0 },
	[UNPU_GGUF_U64] = { "u64", 8 },
	[UNPU_GGUF_I64] = { "i64", 8 },
	[UNPU_GGUF_F64] = { "f64", 8 },
};
#define NUM_VALUE_TYPES	(sizeof(value_types) / sizeof(value_types[0]))

/* ---- strings ---------------------------------------------------------------------------- */

struct unpu_str_text unpu_str_text(struct unpu_str str)
{
	struct unpu_str_text out = { "" };
	size_t room = sizeof(out.text) - 1, n = str.len < room ? str.len : room;
	size_t i;

	for (i = 0; i < n; i++)
		out.text[i] = str.ptr[i] >= 0x20 && str.ptr[i] < 0x7f ? str.ptr[i] : '?';
	if (str.len > room)
		memcpy(out.text + room - 3, "...", 3);
	return out;
}

bool unpu_str_is(struct unpu_str str, const char *text)
{
	return strlen(text) == str.len && (!str.len || !memcmp(str.ptr, text, str.len));
}

static int str_compare(struct unpu_str a, struct unpu_str b)
{
	int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

static bool str_equal(struct unpu_str a, struct unpu_str b)
{
	return a.len == b.len && !memcmp(a.ptr, b.ptr, a.len);
}

/* ---- reading ---------------------------------------------------------------------------- */

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

struct reader {
	const uint8_t *data;
	uint64_t size, at;
};

static uint64_t reader_left(const struct reader *r)
{
	return r->size - r->at;
}

static bool read_u32(struct reader *r, uint32_t *value)
{
	if (reader_left(r) < 4)
		return false;
	*value = le32(r->data + r->at);
	r->at += 4;
	return true;
}

static bool read_u64(struct reader *r, uint64_t *value)
{
	if (reader_left(r) < 8)
		return false;
	*value = le64(r->data + r->at);
	r->at += 8;
	return true;
}

static bool read_str(struct reader *r, struct unpu_str *str)
{
	uint64_t len;

	if (!read_u64(r, &len) || len > reader_left(r))
		return false;
	str->ptr = (const char *)r->data + r->at;
	str->len = len;
	r->at += len;
	return true;
}

/* ---- sorting ---------------------------------------------------------------------------- */

/* By what the indices v stand for. qsort() would allocate, and has no argument for the file. */
typedef int compare_fn(const struct unpu_gguf *g, uint32_t a, uint32_t b);

static void sift(const struct unpu_gguf *g, uint32_t *v, uint32_t at, uint32_t n, compare_fn *cmp)
{
	uint32_t child, t;

	for (; at < n / 2; at = child) {
		child = 2 * at + 1;
		if (child + 1 < n && cmp(g, v[child], v[child + 1]) < 0)
			child++;
		if (cmp(g, v[at], v[child]) >= 0)
			return;
		t = v[at];
		v[at] = v[child];
		v[child] = t;
	}
}

static void heap_sort(const struct unpu_gguf *g, uint32_t *v, uint32_t n, compare_fn *cmp)
{
	uint32_t i, t;

	for (i = n / 2; i-- > 0;)
		sift(g, v, i, n, cmp);
	for (i = n; i-- > 1;) {
		t = v[0];
		v[0] = v[i];
		v[i] = t;
		sift(g, v, 0, i, cmp);
	}
}

static struct unpu_str kv_key(const struct unpu_gguf *g, uint32_t at)
{
	struct unpu_str key = { (const char *)g->data + at + 8, le64(g->data + at) };

	return key;
}

static int compare_keys(const struct unpu_gguf *g, uint32_t a, uint32_t b)
{
	return str_compare(kv_key(g, a), kv_key(g, b));
}

static int compare_names(const struct unpu_gguf *g, uint32_t a, uint32_t b)
{
	return str_compare(g->tensors[a].name, g->tensors[b].name);
}

static int compare_data(const struct unpu_gguf *g, uint32_t a, uint32_t b)
{
	const uint8_t *da = g->tensors[a].data, *db = g->tensors[b].data;

	return (da > db) - (da < db);
}

/* ---- opening: header and keys ----------------------------------------------------------- */

static int check_magic(const struct unpu_gguf *g)
{
	uint32_t version;

	if (g->size >= 4 && !memcmp(g->data, "FUGG", 4))
		return unpu_fail(&g->log, -EINVAL, "the file is big-endian GGUF; "
				 "only little-endian files are supported");
	if (g->size < 4 || memcmp(g->data, "GGUF", 4))
		return unpu_fail(&g->log, -EINVAL, "not a GGUF file");
	if (g->size < HEADER_BYTES)
		return unpu_fail(&g->log, -EINVAL,
				 "the file is cut within its header of %d bytes", HEADER_BYTES);
	version = le32(g->data + 4);
	/* Versions are small numbers: one in the upper half only is byte swapped. */
	if (version && !(version & 0xffff))
		return unpu_fail(&g->log, -EINVAL, "the file is big-endian GGUF; "
				 "only little-endian files are supported");
	if (version != 2 && version != 3)
		return unpu_fail(&g->log, -EINVAL, "GGUF version %" PRIu32 " is not supported; "
				 "versions 2 and 3 are", version);
	return 0;
}

static int check_count(const struct unpu_gguf *g, const struct reader *r, const char *what,
		       uint64_t count, uint32_t each)
{
	if (count > reader_left(r) / each || count > UINT32_MAX)
		return unpu_fail(&g->log, -EINVAL, "the file says it holds %" PRIu64 " %s; "
				 "its %" PRIu64 " bytes cannot", count, what, g->size);
	return 0;
}

static int check_bools(const struct unpu_gguf *g, struct unpu_str key, const uint8_t *v,
		       uint64_t count)
{
	for (; count; count--, v++) {
		if (*v > 1)
			return unpu_fail(&g->log, -EINVAL, "key '%s' has a bool of value %u",
					 unpu_str_text(key).text, *v);
	}
	return 0;
}

static int fail_cut(const struct unpu_gguf *g, struct unpu_str key)
{
	return unpu_fail(&g->log, -EINVAL, "the file is cut in the value of key '%s'",
			 unpu_str_text(key).text);
}

static int fail_value_type(const struct unpu_gguf *g, struct unpu_str key, uint32_t type)
{
	return unpu_fail(&g->log, -EINVAL, "key '%s' has the unknown value type %" PRIu32,
			 unpu_str_text(key).text, type);
}

/* count values of a type that is no array. */
static int skip_values(const struct unpu_gguf *g, struct reader *r, struct unpu_str key,
		       uint32_t type, uint64_t count)
{
	const uint8_t *v = r->data + r->at;
	struct unpu_str str;
	uint32_t bytes;

	if (type == UNPU_GGUF_STRING) {
		if (count > reader_left(r) / 8)
			return fail_cut(g, key);
		for (; count; count--) {
			if (!read_str(r, &str))
				return fail_cut(g, key);
		}
		return 0;
	}
	bytes = value_types[type].bytes;
	if (count > reader_left(r) / bytes)
		return fail_cut(g, key);
	r->at += count * bytes;
	return type == UNPU_GGUF_BOOL ? check_bools(g, key, v, count) : 0;
}

static int skip_array(const struct unpu_gguf *g, struct reader *r, struct unpu_str key)
{
	uint32_t type;
	uint64_t count;

	if (!read_u32(r, &type) || !read_u64(r, &count))
		return fail_cut(g, key);
	if (type == UNPU_GGUF_ARRAY)
		return unpu_fail(&g->log, -EINVAL, "key '%s' is an array of arrays, "
				 "which is not supported", unpu_str_text(key).text);
	if (type >= NUM_VALUE_TYPES)
		return fail_value_type(g, key, type);
	return skip_values(g, r, key, type, count);
}

static int check_key(const struct unpu_gguf *g, struct unpu_str key, uint32_t i)
{
	if (!key.len || key.len > KEY_MAX)
		return unpu_fail(&g->log, -EINVAL, "key %" PRIu32 " has a name of %zu bytes; "
				 "1 to %d are allowed", i, key.len, KEY_MAX);
	if (memchr(key.ptr, 0, key.len))
		return unpu_fail(&g->log, -EINVAL, "key %" PRIu32 " ('%s') has a NUL in its name",
				 i, unpu_str_text(key).text);
	return 0;
}

static int skip_kv(const struct unpu_gguf *g, struct reader *r, uint32_t i)
{
	struct unpu_str key;
	uint32_t type;
	int err;

	if (!read_str(r, &key))
		return unpu_fail(&g->log, -EINVAL, "the file is cut in the name of key %" PRIu32
				 " of %" PRIu32, i, g->num_kvs);
	err = check_key(g, key, i);
	if (err)
		return err;
	if (!read_u32(r, &type))
		return fail_cut(g, key);
	if (type >= NUM_VALUE_TYPES)
		return fail_value_type(g, key, type);
	if (type == UNPU_GGUF_ARRAY)
		return skip_array(g, r, key);
	return skip_values(g, r, key, type, 1);
}

static int read_kvs(struct unpu_gguf *g, struct reader *r)
{
	uint32_t i;
	int err;

	g->kvs = malloc(((size_t)g->num_kvs + 1) * sizeof(*g->kvs));
	if (!g->kvs)
		return unpu_fail(&g->log, -ENOMEM, "no memory for %" PRIu32 " keys", g->num_kvs);
	for (i = 0; i < g->num_kvs; i++) {
		if (r->at > UINT32_MAX)
			return unpu_fail(&g->log, -EINVAL, "key %" PRIu32 " lies past 4 GiB", i);
		g->kvs[i] = r->at;
		err = skip_kv(g, r, i);
		if (err)
			return err;
	}
	heap_sort(g, g->kvs, g->num_kvs, compare_keys);
	for (i = 1; i < g->num_kvs; i++) {
		if (str_equal(kv_key(g, g->kvs[i - 1]), kv_key(g, g->kvs[i])))
			return unpu_fail(&g->log, -EINVAL, "key '%s' is there twice",
					 unpu_str_text(kv_key(g, g->kvs[i])).text);
	}
	return 0;
}

/* ---- opening: tensors ------------------------------------------------------------------- */

static int check_name(const struct unpu_gguf *g, struct unpu_str name, uint32_t i)
{
	if (!name.len || name.len > NAME_MAX_BYTES)
		return unpu_fail(&g->log, -EINVAL, "tensor %" PRIu32 " has a name of %zu bytes; "
				 "1 to %d are allowed", i, name.len, NAME_MAX_BYTES);
	if (memchr(name.ptr, 0, name.len))
		return unpu_fail(&g->log, -EINVAL, "tensor %" PRIu32 " ('%s') has a NUL in its "
				 "name", i, unpu_str_text(name).text);
	return 0;
}

static int check_dims(const struct unpu_gguf *g, const struct unpu_tensor *t, uint64_t *elements)
{
	uint32_t i;

	*elements = 1;
	for (i = 0; i < t->num_dims; i++) {
		if (!t->dims[i])
			return unpu_fail(&g->log, -EINVAL, "tensor '%s': dimension %" PRIu32
					 " is 0", unpu_str_text(t->name).text, i);
		if (__builtin_mul_overflow(*elements, t->dims[i], elements) ||
		    *elements > INT64_MAX)
			return unpu_fail(&g->log, -EINVAL, "tensor '%s' has more than 2^63 "
					 "elements", unpu_str_text(t->name).text);
	}
	return 0;
}

/* Bytes of the data, from a type and dimensions of the file. */
static int check_size(const struct unpu_gguf *g, const struct unpu_tensor *t, uint64_t *bytes)
{
	const struct unpu_type_info *info = type_known(t->type);
	uint64_t elements;
	int err;

	err = check_dims(g, t, &elements);
	if (err)
		return err;
	if (!info)
		return unpu_fail(&g->log, -EINVAL, "tensor '%s' has the unknown type %" PRIu32
				 "; supported are " UNPU_TYPES,
				 unpu_str_text(t->name).text, t->type);
	if (t->dims[0] % info->block)
		return unpu_fail(&g->log, -EINVAL, "tensor '%s' has rows of %" PRIu64
				 " elements, not a multiple of the %" PRIu32 " of type %s",
				 unpu_str_text(t->name).text, t->dims[0], info->block, info->name);
	if (__builtin_mul_overflow(elements / info->block, info->bytes, bytes))
		return unpu_fail(&g->log, -EINVAL, "tensor '%s' has more than 2^64 bytes",
				 unpu_str_text(t->name).text);
	return 0;
}

/* One entry of the table; the data pointer comes later, when its start is known. */
static int read_tensor(const struct unpu_gguf *g, struct reader *r, struct unpu_tensor *t,
		       uint32_t i, uint64_t *offset)
{
	uint32_t d;
	int err;

	if (!read_str(r, &t->name))
		return unpu_fail(&g->log, -EINVAL, "the file is cut in the name of tensor %" PRIu32
				 " of %" PRIu32, i, g->num_tensors);
	err = check_name(g, t->name, i);
	if (err)
		return err;
	if (!read_u32(r, &t->num_dims))
		goto cut;
	if (t->num_dims < 1 || t->num_dims > 4)
		return unpu_fail(&g->log, -EINVAL, "tensor '%s' has %" PRIu32 " dimensions; "
				 "1 to 4 are allowed", unpu_str_text(t->name).text, t->num_dims);
	for (d = 0; d < 4; d++) {
		t->dims[d] = 1;
		if (d < t->num_dims && !read_u64(r, &t->dims[d]))
			goto cut;
	}
	if (read_u32(r, &t->type) && read_u64(r, offset))
		return 0;
cut:
	return unpu_fail(&g->log, -EINVAL, "the file is cut in the description of tensor '%s'",
			 unpu_str_text(t->name).text);
}

/* Offset and size of the data against the file. start: of the data section. */
static int place_tensor(const struct unpu_gguf *g, struct unpu_tensor *t, uint64_t offset,
			uint64_t start, uint32_t align)
{
	uint64_t bytes = 0, at, end;
	int err;

	err = check_size(g, t, &bytes);
	if (err)
		return err;
	if (offset % align)
		return unpu_fail(&g->log, -EINVAL, "tensor '%s': its offset %" PRIu64
				 " is not a multiple of the alignment %" PRIu32,
				 unpu_str_text(t->name).text, offset, align);
	if (__builtin_add_overflow(start, offset, &at) ||
	    __builtin_add_overflow(at, bytes, &end) || end > g->size)
		return unpu_fail(&g->log, -EINVAL, "the file is cut in the data of tensor '%s': "
				 "%" PRIu64 " bytes at offset %" PRIu64 ", the file has %" PRIu64,
				 unpu_str_text(t->name).text, bytes, offset, g->size);
	t->data = g->data + at;
	t->bytes = bytes;
	return 0;
}

static int read_alignment(const struct unpu_gguf *g, uint32_t *align)
{
	int err;

	*align = ALIGN_DEFAULT;
	err = unpu_gguf_u32(g, "general.alignment", 0, UINT32_MAX, align);
	if (err == -ENOENT)
		return 0;
	if (err)
		return err;
	if (*align < ALIGN_MIN || *align > ALIGN_MAX || *align & (*align - 1))
		return unpu_fail(&g->log, -EINVAL, "general.alignment is %" PRIu32
				 "; it must be a power of two from %u to %u", *align,
				 ALIGN_MIN, ALIGN_MAX);
	if (*align > g->size)
		return unpu_fail(&g->log, -EINVAL, "general.alignment is %" PRIu32
				 ", more than the file's %" PRIu64 " bytes", *align, g->size);
	return 0;
}

static int check_overlap(const struct unpu_gguf *g)
{
	const struct unpu_tensor *a, *b;
	uint32_t i;

	heap_sort(g, g->names, g->num_tensors, compare_data);
	for (i = 1; i < g->num_tensors; i++) {
		a = &g->tensors[g->names[i - 1]];
		b = &g->tensors[g->names[i]];
		if ((uint64_t)(b->data - a->data) < a->bytes)
			return unpu_fail(&g->log, -EINVAL, "the data of tensors '%s' and '%s' "
					 "overlap", unpu_str_text(a->name).text,
					 unpu_str_text(b->name).text);
	}
	return 0;
}

static int check_names(const struct unpu_gguf *g)
{
	const struct unpu_tensor *t;
	uint32_t i;

	heap_sort(g, g->names, g->num_tensors, compare_names);
	for (i = 1; i < g->num_tensors; i++) {
		t = &g->tensors[g->names[i]];
		if (str_equal(g->tensors[g->names[i - 1]].name, t->name))
			return unpu_fail(&g->log, -EINVAL, "tensor '%s' is there twice",
					 unpu_str_text(t->name).text);
	}
	return 0;
}

/* Where the table ends, before anything is allocated for it. */
static int skip_tensors(const struct unpu_gguf *g, struct reader *r)
{
	struct unpu_tensor t;
	uint64_t offset;
	uint32_t i;
	int err;

	for (i = 0; i < g->num_tensors; i++) {
		err = read_tensor(g, r, &t, i, &offset);
		if (err)
			return err;
	}
	return 0;
}

static int fill_tensors(struct unpu_gguf *g, struct reader *r, uint64_t start, uint32_t align)
{
	uint64_t offset;
	uint32_t i;
	int err;

	for (i = 0; i < g->num_tensors; i++) {
		err = read_tensor(g, r, &g->tensors[i], i, &offset);
		if (!err)
			err = place_tensor(g, &g->tensors[i], offset, start, align);
		if (err)
			return err;
		g->names[i] = i;
	}
	err = check_overlap(g);
	if (err)
		return err;
	/* The size of an unsupported type served the checks above and is no promise. */
	for (i = 0; i < g->num_tensors; i++) {
		if (!unpu_type_info(g->tensors[i].type))
			g->tensors[i].bytes = 0;
	}
	return check_names(g);
}

static int read_tensors(struct unpu_gguf *g, struct reader *r)
{
	struct reader table = *r;
	uint64_t start;
	uint32_t align;
	int err;

	err = read_alignment(g, &align);
	if (!err)
		err = skip_tensors(g, r);
	if (err || !g->num_tensors)
		return err;
	start = (r->at + align - 1) & ~(uint64_t)(align - 1);
	/* No two share an aligned place, so the data section bounds their number. */
	if (start >= g->size || (g->size - start - 1) / align < g->num_tensors - 1)
		return unpu_fail(&g->log, -EINVAL, "the file is cut before the data of its %"
				 PRIu32 " tensors", g->num_tensors);
	g->tensors = calloc(g->num_tensors, sizeof(*g->tensors));
	g->names = calloc(g->num_tensors, sizeof(*g->names));
	if (!g->tensors || !g->names)
		return unpu_fail(&g->log, -ENOMEM, "no memory for %" PRIu32 " tensors",
				 g->num_tensors);
	return fill_tensors(g, &table, start, align);
}

/* Keys that everyone reads are of the format's type or not there. */
static int check_general(const struct unpu_gguf *g)
{
	struct unpu_str str;
	int err;

	err = unpu_gguf_str(g, "general.architecture", &str);
	if (!err || err == -ENOENT)
		err = unpu_gguf_str(g, "general.name", &str);
	return err == -ENOENT ? 0 : err;
}

static int gguf_read(struct unpu_gguf *g)
{
	struct reader r = { g->data, g->size, HEADER_BYTES };
	uint64_t tensors, kvs;
	int err;

	err = check_magic(g);
	if (err)
		return err;
	tensors = le64(g->data + 8);
	kvs = le64(g->data + 16);
	err = check_count(g, &r, "tensors", tensors, TENSOR_MIN_BYTES);
	if (!err)
		err = check_count(g, &r, "keys", kvs, KV_MIN_BYTES);
	if (err)
		return err;
	g->num_tensors = tensors;
	g->num_kvs = kvs;
	err = read_kvs(g, &r);
	if (!err)
		err = check_general(g);
	return err ? err : read_tensors(g, &r);
}

int unpu_gguf_create(const void *data, uint64_t size, const struct unpu_log *log,
		     struct unpu_gguf **gguf)
{
	struct unpu_gguf *g;
	int err;

	g = calloc(1, sizeof(*g));
	if (!g)
		return unpu_fail(log, -ENOMEM, "no memory for a file's keys");
	g->data = data;
	g->size = size;
	if (log)
		g->log = *log;
	err = gguf_read(g);
	if (err)
		unpu_gguf_destroy(g);
	else
		*gguf = g;
	return err;
}

void unpu_gguf_destroy(struct unpu_gguf *gguf)
{
	if (!gguf)
		return;
	free(gguf->kvs);
	free(gguf->tensors);
	free(gguf->names);
	free(gguf);
}

/* ---- tensors ---------------------------------------------------------------------------- */

const uint8_t *unpu_gguf_data(const struct unpu_gguf *gguf)
{
	return gguf->data;
}

uint64_t unpu_gguf_size(const struct unpu_gguf *gguf)
{
	return gguf->size;
}

uint32_t unpu_gguf_num_tensors(const struct unpu_gguf *gguf)
{
	return gguf->num_tensors;
}

const struct unpu_tensor *unpu_gguf_tensor_at(const struct unpu_gguf *gguf, uint32_t i)
{
	return i < gguf->num_tensors ? &gguf->tensors[i] : NULL;
}

const struct unpu_tensor *unpu_gguf_tensor(const struct unpu_gguf *gguf, const char *name)
{
	struct unpu_str want = { name, strlen(name) };
	uint32_t lo = 0, hi = gguf->num_tensors, mid;
	const struct unpu_tensor *t;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		t = &gguf->tensors[gguf->names[mid]];
		c = str_compare(t->name, want);
		if (!c)
			return t;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* ---- values ----------------------------------------------------------------------------- */

struct value {
	uint32_t type;		/* enum unpu_gguf_type */
	const uint8_t *at;	/* past the type */
};

static int find_value(const struct unpu_gguf *g, const char *key, struct value *v)
{
	struct unpu_str want = { key, strlen(key) };
	uint32_t lo = 0, hi = g->num_kvs, mid;
	struct unpu_str have;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		have = kv_key(g, g->kvs[mid]);
		c = str_compare(have, want);
		if (!c) {
			v->type = le32((const uint8_t *)have.ptr + have.len);
			v->at = (const uint8_t *)have.ptr + have.len + 4;
			return 0;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -ENOENT;
}

static int fail_type(const struct unpu_gguf *g, const char *key, const char *want,
		     const struct value *v)
{
	bool array = v->type == UNPU_GGUF_ARRAY;

	return unpu_fail(&g->log, -EINVAL, "key '%s' is of type %s%s, not %s", key,
			 array ? "array of " : "",
			 value_types[array ? le32(v->at) : v->type].name, want);
}

/* The value as sign and magnitude. False: not an integer. */
static bool integer(const struct value *v, bool *negative, uint64_t *magnitude)
{
	int64_t s = 0;

	*negative = false;
	switch (v->type) {
	case UNPU_GGUF_U8:
		*magnitude = v->at[0];
		return true;
	case UNPU_GGUF_U16:
		*magnitude = v->at[0] | v->at[1] << 8;
		return true;
	case UNPU_GGUF_U32:
		*magnitude = le32(v->at);
		return true;
	case UNPU_GGUF_U64:
		*magnitude = le64(v->at);
		return true;
	case UNPU_GGUF_I8:
		s = (int8_t)v->at[0];
		break;
	case UNPU_GGUF_I16:
		s = (int16_t)(v->at[0] | v->at[1] << 8);
		break;
	case UNPU_GGUF_I32:
		s = (int32_t)le32(v->at);
		break;
	case UNPU_GGUF_I64:
		s = (int64_t)le64(v->at);
		break;
	default:
		return false;
	}
	*negative = s < 0;
	*magnitude = s < 0 ? -(uint64_t)s : (uint64_t)s;
	return true;
}

int unpu_gguf_u32(const struct unpu_gguf *gguf, const char *key, uint32_t min, uint32_t max,
		  uint32_t *value)
{
	uint64_t magnitude;
	struct value v;
	bool negative;
	int err;

	err = find_value(gguf, key, &v);
	if (err)
		return err;
	if (!integer(&v, &negative, &magnitude))
		return fail_type(gguf, key, "an integer", &v);
	if (negative || magnitude < min || magnitude > max)
		return unpu_fail(&gguf->log, -EINVAL, "key '%s' is %s%" PRIu64 "; %" PRIu32
				 " to %" PRIu32 " are allowed", key, negative ? "-" : "",
				 magnitude, min, max);
	*value = magnitude;
	return 0;
}

int unpu_gguf_f32(const struct unpu_gguf *gguf, const char *key, float *value)
{
	uint32_t bits32;
	uint64_t bits64;
	struct value v;
	double d;
	int err;

	err = find_value(gguf, key, &v);
	if (err)
		return err;
	if (v.type == UNPU_GGUF_F32) {
		bits32 = le32(v.at);
		memcpy(value, &bits32, sizeof(*value));
		return 0;
	}
	if (v.type != UNPU_GGUF_F64)
		return fail_type(gguf, key, "f32", &v);
	bits64 = le64(v.at);
	memcpy(&d, &bits64, sizeof(d));
	/* A conversion out of range is undefined in C; all callers refuse what is not finite. */
	*value = d > 3.4e38 ? __builtin_inff() : d < -3.4e38 ? -__builtin_inff() : (float)d;
	return 0;
}

int unpu_gguf_bool(const struct unpu_gguf *gguf, const char *key, bool *value)
{
	struct value v;
	int err;

	err = find_value(gguf, key, &v);
	if (err)
		return err;
	if (v.type != UNPU_GGUF_BOOL)
		return fail_type(gguf, key, "bool", &v);
	*value = v.at[0];
	return 0;
}

int unpu_gguf_str(const struct unpu_gguf *gguf, const char *key, struct unpu_str *value)
{
	struct value v;
	int err;

	err = find_value(gguf, key, &v);
	if (err)
		return err;
	if (v.type != UNPU_GGUF_STRING)
		return fail_type(gguf, key, "string", &v);
	value->len = le64(v.at);
	value->ptr = (const char *)v.at + 8;
	return 0;
}

int unpu_gguf_array(const struct unpu_gguf *gguf, const char *key, enum unpu_gguf_type type,
		    const void **data, uint64_t *count)
{
	char want[32] = "array of ";
	struct value v;
	int err;

	err = find_value(gguf, key, &v);
	if (err)
		return err;
	if (v.type != UNPU_GGUF_ARRAY || le32(v.at) != type)
		return fail_type(gguf, key, strcat(want, value_types[type].name), &v);
	*count = le64(v.at + 4);
	*data = v.at + 12;
	return 0;
}

int unpu_gguf_strings(const struct unpu_gguf *gguf, const char *key,
		      struct unpu_gguf_strings *strings, uint64_t *count)
{
	const void *data;
	int err;

	err = unpu_gguf_array(gguf, key, UNPU_GGUF_STRING, &data, count);
	if (err)
		return err;
	strings->at = data;
	strings->left = *count;
	return 0;
}

bool unpu_gguf_strings_next(struct unpu_gguf_strings *strings, struct unpu_str *value)
{
	if (!strings->left)
		return false;
	value->len = le64(strings->at);
	value->ptr = (const char *)strings->at + 8;
	strings->at += 8 + value->len;
	strings->left--;
	return true;
}
