/* SPDX-License-Identifier: MIT */
/*
 * Some thousand GGUF files, each wrong in one place: a clean refusal with one sentence, or a model
 * that can be used. Memory stays within twice the file's size and a constant; the sanitizers see
 * the rest, as each file lies in an allocation of exactly its size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "runtime/text/tokenizer.h"
#include "runtime/unpu.h"
#include "tests/lib/edit.h"
#include "tests/lib/tiny.h"

/* What a tokenizer's patterns and a few small objects may take, however small the file is. */
#define MEMORY_CONSTANT	(32u << 10)

/* ---- memory ----------------------------------------------------------------------------- */

#if defined(__has_feature)
#define FEATURE(x)	__has_feature(x)
#else
#define FEATURE(x)	0
#endif
#if defined(__SANITIZE_ADDRESS__) || FEATURE(address_sanitizer)
#define COUNT_BY_HOOKS
#elif defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) && !FEATURE(thread_sanitizer)
#define COUNT_BY_WRAPPERS
#endif

static size_t in_use, most;

static __attribute__((unused)) void count(size_t size)
{
	size_t now = __atomic_add_fetch(&in_use, size, __ATOMIC_RELAXED);

	if (now > most)
		most = now;
}

static __attribute__((unused)) void uncount(size_t size)
{
	__atomic_sub_fetch(&in_use, size, __ATOMIC_RELAXED);
}

#ifdef COUNT_BY_HOOKS
int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *, size_t),
					      void (*freed)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static void on_malloc(const volatile void *p, size_t size)
{
	if (p)
		count(size);
}

static void on_free(const volatile void *p)
{
	if (p)
		uncount(__sanitizer_get_allocated_size(p));
}
#endif

#ifdef COUNT_BY_WRAPPERS
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static void *counted(void *p)
{
	if (p)
		count(malloc_usable_size(p));
	return p;
}

void *malloc(size_t size)
{
	return counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
	return counted(__libc_calloc(n, size));
}

void *realloc(void *p, size_t size)
{
	size_t old = malloc_usable_size(p);
	void *grown = __libc_realloc(p, size);

	if (grown || !size)
		uncount(old);
	return counted(grown);
}

void free(void *p)
{
	uncount(malloc_usable_size(p));
	__libc_free(p);
}
#endif

/* ---- one file --------------------------------------------------------------------------- */

struct heard {
	int errors;
	char text[512];
};

static struct heard heard;
static const char *subject;	/* what was done to the file, for a failure's message */
static unsigned int accepted, refused, ran;
static size_t worst_memory;	/* above twice the file's size */

static void hear(void *arg, enum unpu_log_level level, const char *text)
{
	const char *c;

	(void)arg;
	if (level != UNPU_LOG_ERROR)
		return;
	heard.errors++;
	snprintf(heard.text, sizeof(heard.text), "%s", text);
	for (c = text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			fail_msg("%s: control character in '%s'", subject, text);
	}
}

static const struct unpu_log log_heard = { hear, NULL };

static int judge(int err, const char *what)
{
	if (err > 0 || (err && heard.errors != 1) || (!err && heard.errors))
		fail_msg("%s: %s gave %d and %d error lines, the last '%s'", subject, what, err,
			 heard.errors, heard.text);
	return err;
}

static volatile uint8_t sink;

static void touch_tensors(const struct unpu_gguf *gguf)
{
	const struct unpu_tensor *t;
	uint64_t b;
	uint32_t i;

	for (i = 0; (t = unpu_gguf_tensor_at(gguf, i)); i++) {
		for (b = 0; b < t->bytes; b += 64)
			sink += t->data[b];
		if (t->bytes)
			sink += t->data[t->bytes - 1];
	}
}

static void use_tokenizer(const struct unpu_tokenizer *tok)
{
	static const char text[] = "The cat, \xc3\xa9 and\n\xff 123  <s>hello</s>";
	uint32_t ids[64], vocab = unpu_tokenizer_vocab(tok), eog[4];
	char out[256];
	int64_t n, i;

	n = unpu_tokenizer_encode(tok, text, sizeof(text) - 1, UNPU_TOKENIZE_ADD_SPECIAL |
				  UNPU_TOKENIZE_PARSE_SPECIAL, ids, 64);
	if (n < 0 && n != -EINVAL)
		fail_msg("%s: encode gave %d", subject, (int)n);
	for (i = 0; i < n && i < 64; i++) {
		if (ids[i] >= vocab)
			fail_msg("%s: id %u of %u", subject, ids[i], vocab);
	}
	if (n > 0)
		unpu_tokenizer_decode(tok, ids, n < 64 ? n : 64, out, sizeof(out));
	for (i = 0; i < vocab; i += 1 + vocab / 16)
		unpu_tokenizer_piece(tok, i, out, sizeof(out));
	unpu_tokenizer_eog(tok, eog, 4);
	heard.errors = 0;	/* a text that cannot be encoded may say so */
}

static int open_parts(const uint8_t *data, size_t size, struct unpu_gguf **gguf,
		      struct unpu_arch **arch, struct unpu_tokenizer **tok)
{
	int err;

	err = judge(unpu_gguf_create(data, size, &log_heard, gguf), "gguf");
	if (err)
		return err;
	err = judge(unpu_tokenizer_create(*gguf, &log_heard, tok), "tokenizer");
	if (err)
		return err;
	return judge(unpu_arch_create(*gguf, &log_heard, arch), "arch");
}

static int try_parts(const uint8_t *data, size_t size)
{
	size_t before = in_use, peak;
	struct unpu_gguf *gguf = NULL;
	struct unpu_arch *arch = NULL;
	struct unpu_tokenizer *tok = NULL;
	int err;

	memset(&heard, 0, sizeof(heard));
	most = in_use;
	err = open_parts(data, size, &gguf, &arch, &tok);
	peak = most - before;
	if (peak > 2 * size + MEMORY_CONSTANT)
		fail_msg("%s: %zu bytes of memory for a file of %zu", subject, peak, size);
	if (peak > 2 * size && peak - 2 * size > worst_memory)
		worst_memory = peak - 2 * size;
	if (gguf)
		touch_tensors(gguf);
	if (tok)
		use_tokenizer(tok);
	unpu_tokenizer_destroy(tok);
	unpu_arch_destroy(arch);
	unpu_gguf_destroy(gguf);
	if (in_use != before)
		fail_msg("%s: %zd bytes are left", subject, (ssize_t)(in_use - before));
	if (err)
		refused++;
	else
		accepted++;
	return err;
}

/* The whole way: load, prompt, generate. Values that are not finite give -EIO. */
static void run_model(const uint8_t *data, size_t size)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_session_params with = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session = NULL;
	struct unpu_model *model = NULL;
	uint32_t ids[3] = { 1, 70, 33 };
	int err;

	params.threads = 1;
	params.log = hear;
	with.temperature = 0;
	memset(&heard, 0, sizeof(heard));
	err = judge(unpu_model_load_memory(data, size, &params, &model), "load");
	if (!err)
		err = judge(unpu_session_create(model, &with, &session), "session");
	if (!err)
		err = judge(unpu_session_prompt(session, ids, 3), "prompt");
	if (!err) {
		err = unpu_session_generate(session, 2, NULL, NULL);
		judge(err < 0 ? err : 0, "generate");
		ran++;
	}
	unpu_session_destroy(session);
	unpu_model_destroy(model);
}

/* A copy of exactly size bytes, so that a read past it is seen; takes no file over. */
static int try_file(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	int err;

	assert_non_null(copy);
	memcpy(copy, data, size);
	err = try_parts(copy, size);
	if (!err && accepted % 64 == 1)
		run_model(copy, size);
	free(copy);
	return err;
}

static void must_refuse(const uint8_t *data, size_t size)
{
	if (!try_file(data, size))
		fail_msg("%s: accepted", subject);
}

/* ---- the structure of a good file ------------------------------------------------------- */

enum kind { COUNT, LENGTH, TYPE, NDIMS, DIM, OFFSET, VALUE, TEXT };

struct field {
	size_t at;
	size_t size;
	enum kind kind;
	bool token;	/* within a long array: there are many of its like */
};

struct layout {
	struct edit e;
	struct field *fields;
	size_t num, room;
	size_t header;		/* where the padding before the data begins */
	size_t at;		/* of the walk */
	size_t last;		/* where the last tensor's data ends */
};

static uint64_t load(const uint8_t *p, size_t size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | p[size];
	return value;
}

static void store(uint8_t *p, uint64_t value, size_t size)
{
	for (; size--; value >>= 8)
		*p++ = (uint8_t)value;
}

static uint64_t field(struct layout *l, size_t size, enum kind kind, bool token)
{
	uint64_t value = load(l->e.data + l->at, size < 8 ? size : 8);

	if (l->num == l->room) {
		l->room = l->room ? 2 * l->room : 256;
		l->fields = realloc(l->fields, l->room * sizeof(*l->fields));
		assert_non_null(l->fields);
	}
	l->fields[l->num++] = (struct field){ l->at, size, kind, token };
	l->at += size;
	assert_true(l->at <= l->e.size);
	return value;
}

static void walk_string(struct layout *l, bool token)
{
	field(l, field(l, 8, LENGTH, token), TEXT, token);
}

static size_t value_size(uint32_t type)
{
	static const uint8_t sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

	return sizes[type];
}

static void walk_value(struct layout *l)
{
	uint32_t type = field(l, 4, TYPE, false);
	uint64_t n, i;

	if (type == UNPU_GGUF_STRING) {
		walk_string(l, false);
		return;
	}
	if (type != UNPU_GGUF_ARRAY) {
		field(l, value_size(type), VALUE, false);
		return;
	}
	type = field(l, 4, TYPE, false);
	n = field(l, 8, COUNT, false);
	for (i = 0; i < n; i++) {
		if (type == UNPU_GGUF_STRING)
			walk_string(l, i > 1);
		else
			field(l, value_size(type), VALUE, i > 1);
	}
}

static void walk_tensor(struct layout *l)
{
	uint64_t n;

	walk_string(l, false);
	for (n = field(l, 4, NDIMS, false); n; n--)
		field(l, 8, DIM, false);
	field(l, 4, TYPE, false);
	field(l, 8, OFFSET, false);
}

static void walk(struct layout *l, struct edit e)
{
	const struct unpu_tensor *t;
	struct unpu_gguf *gguf;
	uint64_t tensors, kvs;
	uint32_t i;

	*l = (struct layout){ .e = e };
	field(l, 4, TEXT, false);
	field(l, 4, VALUE, false);
	tensors = field(l, 8, COUNT, false);
	for (kvs = field(l, 8, COUNT, false); kvs; kvs--) {
		walk_string(l, false);
		walk_value(l);
	}
	for (; tensors; tensors--)
		walk_tensor(l);
	l->header = l->at;
	assert_int_equal(unpu_gguf_create(e.data, e.size, NULL, &gguf), 0);
	for (i = 0; (t = unpu_gguf_tensor_at(gguf, i)); i++) {
		if ((size_t)(t->data + t->bytes - e.data) > l->last)
			l->last = t->data + t->bytes - e.data;
	}
	unpu_gguf_destroy(gguf);
}

static void walked_free(struct layout *l)
{
	free(l->fields);
	free(l->e.data);
}

static struct edit small(const char *arch, uint32_t type)
{
	struct tiny_params p = { .arch = arch, .type = type, .tied = -1, .seed = 1, .hidden = 32,
				 .ffn = 32, .heads = 2, .kv_heads = arch[0] == 'g' ? 2 : 1,
				 .head_dim = 16, .layers = 1, .vocab = 300, .context = 64 };
	struct edit e;

	e.data = tiny_model(&p, &e.size);
	assert_non_null(e.data);
	return e;
}

/* The subjects: each architecture, each type, both tokenizers. */
static struct edit base(size_t i)
{
	switch (i) {
	case 0:
		return small("llama", UNPU_TYPE_Q4_0);
	case 1:
		return small("gpt2", UNPU_TYPE_F16);
	case 2:
		return small("qwen2", UNPU_TYPE_Q8_0);
	default:
		return small("qwen3", UNPU_TYPE_BF16);
	}
}
#define NUM_BASES	4

/* ---- mutations -------------------------------------------------------------------------- */

static char what[160];

static void test_good(void **state)
{
	struct edit e;
	size_t i;

	(void)state;
	for (i = 0; i < NUM_BASES; i++) {
		e = base(i);
		subject = "an unchanged file";
		assert_int_equal(try_file(e.data, e.size), 0);
		run_model(e.data, e.size);
		free(e.data);
	}
	assert_int_equal(ran, NUM_BASES + 1);
}

/* Cut before and within each field, and in each tensor's data. */
static void test_truncated(void **state)
{
	struct layout l;
	size_t i, f, cut;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		walk(&l, base(i));
		for (f = 0; f < l.num; f += l.fields[f].token ? 5 : 1) {
			cut = l.fields[f].at;
			snprintf(what, sizeof(what), "base %zu cut at %zu", i, cut);
			must_refuse(l.e.data, cut);
			must_refuse(l.e.data, cut + l.fields[f].size / 2);
		}
		for (cut = l.header; cut < l.last; cut += 1 + (l.last - l.header) / 40) {
			snprintf(what, sizeof(what), "base %zu cut at %zu", i, cut);
			must_refuse(l.e.data, cut);
		}
		must_refuse(l.e.data, l.last - 1);
		walked_free(&l);
	}
}

/* Each byte before the data, of arrays the first entries and a sample. */
static void test_flipped(void **state)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0x20, 0xff };
	struct layout l;
	size_t i, f, b, k;
	uint8_t *at;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		walk(&l, base(i));
		for (f = 0; f < l.num; f += l.fields[f].token ? 37 : 1) {
			for (b = 0; b < l.fields[f].size; b++) {
				at = l.e.data + l.fields[f].at + b;
				for (k = b % 2; k < 4; k += l.fields[f].kind == TEXT ? 4 : 2) {
					snprintf(what, sizeof(what), "base %zu byte %zu ^ %02x", i,
						 l.fields[f].at + b, flips[k]);
					*at ^= flips[k];
					try_file(l.e.data, l.e.size);
					*at ^= flips[k];
				}
			}
		}
		walked_free(&l);
	}
}

/* Counts, lengths, dimensions, offsets and values that are huge, zero, off by one or overflow. */
static void test_numbers(void **state)
{
	struct layout l;
	const struct field *f;
	size_t i, v;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		walk(&l, base(i));
		for (f = l.fields; f < l.fields + l.num; f += f->token ? 101 : 1) {
			uint64_t was = load(l.e.data + f->at, f->size < 8 ? f->size : 8);
			const uint64_t values[] = {
				0, 1, was - 1, was + 1, 2 * was, was + 32, l.e.size,
				l.e.size - f->at, l.e.size - f->at - f->size, INT32_MAX,
				UINT32_MAX, 1ull << 31, 1ull << 32, 1ull << 61, 1ull << 63,
				INT64_MAX, UINT64_MAX, UINT64_MAX - 31, UINT64_MAX / 18 + 1,
				12, 9, 8,
			};

			if (f->kind == TEXT || f->size > 8)
				continue;
			for (v = i % 3; v < sizeof(values) / sizeof(values[0]); v += i ? 3 : 1) {
				snprintf(what, sizeof(what), "base %zu field at %zu = %llx", i,
					 f->at, (unsigned long long)values[v]);
				store(l.e.data + f->at, values[v], f->size);
				try_file(l.e.data, l.e.size);
			}
			store(l.e.data + f->at, was, f->size);
		}
		walked_free(&l);
	}
}

/* One field of each tensor after the other, with a value that no file may have there. */
static void refuse_fields(struct layout *l, enum kind kind, uint64_t value)
{
	const struct field *f;
	uint64_t was;

	for (f = l->fields; f < l->fields + l->num; f++) {
		if (f->kind != kind)
			continue;
		was = load(l->e.data + f->at, f->size);
		snprintf(what, sizeof(what), "field at %zu of kind %d = %llx", f->at, kind,
			 (unsigned long long)value);
		store(l->e.data + f->at, value, f->size);
		must_refuse(l->e.data, l->e.size);
		store(l->e.data + f->at, was, f->size);
	}
}

/* All tensors at one place, or with one name. */
static void refuse_pairs(struct layout *l, enum kind kind)
{
	const struct field *a, *b, *end = l->fields + l->num;
	uint8_t was[128];

	for (a = l->fields; a < end; a++) {
		for (b = a + 1; b < end; b++) {
			if (a->kind != kind || b->kind != kind || a->token || b->token ||
			    a->size != b->size || a->size > sizeof(was) || (b - a) > 24)
				continue;
			if (!memcmp(l->e.data + a->at, l->e.data + b->at, a->size))
				continue;
			snprintf(what, sizeof(what), "fields at %zu and %zu alike", a->at, b->at);
			memcpy(was, l->e.data + b->at, b->size);
			memcpy(l->e.data + b->at, l->e.data + a->at, b->size);
			if (kind == OFFSET)
				must_refuse(l->e.data, l->e.size);
			else
				try_file(l->e.data, l->e.size);
			memcpy(l->e.data + b->at, was, b->size);
		}
	}
}

static void test_tensors(void **state)
{
	struct layout l;
	size_t i;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		walk(&l, base(i));
		refuse_fields(&l, DIM, 0);
		refuse_fields(&l, DIM, 1ull << 63);
		refuse_fields(&l, DIM, UINT64_MAX);
		refuse_fields(&l, DIM, UINT64_MAX / 2);
		refuse_fields(&l, NDIMS, 0);
		refuse_fields(&l, NDIMS, 5);
		refuse_fields(&l, NDIMS, UINT32_MAX);
		refuse_fields(&l, OFFSET, 1);
		refuse_fields(&l, OFFSET, UINT64_MAX);
		refuse_fields(&l, OFFSET, UINT64_MAX - 31);
		refuse_fields(&l, OFFSET, (l.e.size + 31) / 32 * 32);
		refuse_fields(&l, OFFSET, 1ull << 63);
		refuse_fields(&l, TYPE, 77);
		refuse_pairs(&l, OFFSET);
		refuse_pairs(&l, TEXT);
		walked_free(&l);
	}
}

static void test_alignment(void **state)
{
	static const uint32_t bad[] = { 0, 1, 3, 4, 24, 31, 33, 48, 1u << 20, 1u << 21, 1u << 31,
					UINT32_MAX };
	struct edit e;
	size_t i, k;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			e = base(i);
			edit_key_u32(&e, "general.alignment", bad[k]);
			snprintf(what, sizeof(what), "alignment %u", bad[k]);
			must_refuse(e.data, e.size);
			free(e.data);
		}
		for (k = 8; k <= 65536; k *= 2) {
			e = base(i);
			edit_key_u32(&e, "general.alignment", (uint32_t)k);
			snprintf(what, sizeof(what), "alignment %zu", k);
			try_file(e.data, e.size);
			free(e.data);
		}
	}
}

static const char *const tokenizer_keys[] = {
	"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
	"tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
	"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
	"tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_bos_token",
	"tokenizer.ggml.add_space_prefix", "tokenizer.ggml.eot_token_id", "general.name",
	"general.architecture",
};

/* Another value under the key, of another type too; k says which. */
static void change_key(struct edit *e, const char *key, int k)
{
	static const char *const texts[] = {
		"", "llama", "gpt2", "bert", "qwen2", "\x1b[31m\n", "\xff\xfe", "%s%n%d",
	};

	snprintf(what, sizeof(what), "key %s, change %d", key, k);
	if (k == 0)
		edit_key_u32(e, key, UINT32_MAX);
	else if (k == 1)
		edit_key_u32(e, key, 300);
	else if (k == 2)
		edit_key_u32(e, key, 0);
	else if (k == 3)
		edit_key_f32(e, key, __builtin_nanf(""));
	else
		edit_key_str(e, key, texts[k - 4]);
}

static void test_tokenizer_keys(void **state)
{
	struct edit e;
	size_t i, n;
	int k;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		for (n = 0; n < sizeof(tokenizer_keys) / sizeof(tokenizer_keys[0]); n++) {
			for (k = 0; k < 12; k++) {
				e = base(i);
				change_key(&e, tokenizer_keys[n], k);
				if (!try_file(e.data, e.size) && k < 4)
					run_model(e.data, e.size);
				free(e.data);
			}
		}
	}
}

/* All entries of arrays alike, in ways that tokenizers do not expect; a few each of them apart. */
static void test_tokenizer_arrays(void **state)
{
	static const uint8_t fills[] = { 0, ' ', 'a', 0x80, 0xe2, 0xff };
	struct layout l;
	size_t i, k, part;
	struct field *f;
	struct edit e;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		for (k = 0; k < 2 * sizeof(fills); k++) {
			e = base(i);
			walk(&l, e);
			part = k / sizeof(fills);
			for (f = l.fields; f < l.fields + l.num; f++) {
				if (f->token && (f->kind == TEXT || f->kind == VALUE) &&
				    (!part || f->at % 3 == 0))
					memset(e.data + f->at, fills[k % sizeof(fills)], f->size);
			}
			snprintf(what, sizeof(what), "base %zu arrays of %02x, part %zu", i,
				 fills[k % sizeof(fills)], part);
			try_file(e.data, e.size);
			walked_free(&l);
		}
	}
}

/* Several bytes at once, anywhere before the data; the seed is the number of the file. */
static void test_random(void **state)
{
	uint64_t rng;
	struct layout l;
	uint8_t *file;
	size_t i, n, k;

	(void)state;
	subject = what;
	for (i = 0; i < NUM_BASES; i++) {
		walk(&l, base(i));
		file = malloc(l.e.size);
		assert_non_null(file);
		for (n = 0; n < 250; n++) {
			rng = (i * 1000 + n) * 0x9e3779b97f4a7c15 + 1;
			memcpy(file, l.e.data, l.e.size);
			for (k = 0; k <= n % 5; k++) {
				rng = rng * 6364136223846793005u + 1442695040888963407u;
				file[(rng >> 33) % l.header] = (uint8_t)(rng >> 20);
			}
			snprintf(what, sizeof(what), "base %zu random %zu", i, n);
			try_file(file, l.e.size);
		}
		free(file);
		walked_free(&l);
	}
}

static void test_sum(void **state)
{
	(void)state;
	print_message("%u files refused, %u accepted, %u of them run; memory at most twice the "
		      "file and %zu bytes%s\n", refused, accepted, ran, worst_memory,
		      most ? "" : " (not counted in this build)");
	assert_true(refused >= 2000);
	assert_true(accepted >= 100);
	assert_true(ran >= NUM_BASES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_tensors),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_tokenizer_keys),
		cmocka_unit_test(test_tokenizer_arrays),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_sum),
	};

#ifdef COUNT_BY_HOOKS
	__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
