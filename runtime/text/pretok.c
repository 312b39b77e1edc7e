/* SPDX-License-Identifier: MIT */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/pretok.h"
#include "runtime/text/utf8.h"

#define MAX_PATTERNS	6

/*
 * Each tokenizer's patterns are facts of its published tokenizer.json: applied one after the other,
 * each to every fragment that those before it left, matched or not.
 *
 * They are written so that PCRE2 takes them as the others' engines do, and in linear time:
 * - \s is spelled out, since PCRE2's takes U+180E too, which is no White_Space since Unicode 6.3;
 * - `\s*[\r\n]+` is NEWLINES, which never steps back;
 * - `\s+$` has a look-behind, without which a long run of spaces is tried from each of them.
 */
#define WS	"\\p{Z}\\t-\\r\\x{85}"
#define SPACES	"[" WS "]+(?![^" WS "])|[" WS "]+"
#define NEWLINES "(?:[\\p{Z}\\t\\x{b}\\f\\x{85}]*+[\\r\\n]++)++"
#define OTHERS	" ?[^" WS "\\p{L}\\p{N}]+"

#define GPT2	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" OTHERS "|" SPACES
#define LLAMA3(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "|" \
	OTHERS "[\\r\\n]*|" NEWLINES "|" SPACES
#define CJK	"[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

/* The letters with case of the Unicode version that deepseek-llm was trained with. */
#define CASED \
	"A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}" \
	"\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}" \
	"\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}" \
	"\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}" \
	"\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}" \
	"\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}" \
	"\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}" \
	"\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}" \
	"\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}" \
	"\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}" \
	"\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}" \
	"\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}" \
	"\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}" \
	"\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}" \
	"\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}" \
	"\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}" \
	"\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}" \
	"\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

struct pretok_kind {
	const char *name;
	bool ignore_merges, add_bos;
	const char *patterns[MAX_PATTERNS];
};

static const struct pretok_kind kinds[] = {
	{ "default", .patterns = { GPT2 } },
	{ "gpt-2", .patterns = { GPT2 } },
	{ "smollm", .patterns = { "\\p{N}", GPT2 } },
	{ "llama-bpe", true, true, { LLAMA3("\\p{N}{1,3}") } },
	{ "llama3", true, true, { LLAMA3("\\p{N}{1,3}") } },
	{ "llama-v3", true, true, { LLAMA3("\\p{N}{1,3}") } },
	{ "qwen2", .patterns = { LLAMA3("\\p{N}") } },
	{ "starcoder", .patterns = { "\\p{N}", GPT2 } },
	{ "refact", .patterns = { "\\p{N}", GPT2 } },
	{ "falcon", .patterns = { "[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]" } },
	{ "mpt", .patterns = { GPT2 } },
	{ "deepseek-llm", .patterns = {
		"[\\r\\n]",
		"[" WS "]?[" CASED "]+",
		"[" WS "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
			"\\x{3000}-\\x{3002}]+",
		"(?<![" WS "])[" WS "]++$",
		CJK,
		"\\p{N}+",
	} },
	{ "deepseek-coder", .patterns = {
		"[\\r\\n]",
		"[" WS "]?\\p{L}+",
		"[" WS "]?\\p{P}+",
		CJK,
		"\\p{N}",
	} },
};

/* No pattern above needs more than a few steps a byte, so only long hostile text comes near. */
#define MATCH_LIMIT	10000000
#define HEAP_LIMIT_KIB	20000

struct unpu_pretok {
	const struct pretok_kind *kind;
	pcre2_code *code[MAX_PATTERNS];
	uint32_t num;
	pcre2_match_context *limits;
};

static const struct pretok_kind *find_kind(struct unpu_str name)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].name) == name.len &&
		    memcmp(kinds[i].name, name.ptr, name.len) == 0)
			return &kinds[i];
	return NULL;
}

static int fail_name(struct unpu_str name, const struct unpu_log *log)
{
	char list[256];
	size_t i, at = 0;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].name);

		if (at + length + 3 > sizeof(list))
			break;
		if (i > 0) {
			memcpy(list + at, ", ", 2);
			at += 2;
		}
		memcpy(list + at, kinds[i].name, length);
		at += length;
	}
	list[at] = 0;
	return unpu_fail(log, -EINVAL,
			 "tokenizer.ggml.pre: pre-tokenizer '%.*s' is not supported (%s are)",
			 name.len > 64 ? 64 : (int)name.len, name.ptr, list);
}

/* The patterns are constants: failing to compile one is a lack of memory, or a PCRE2 without
 * Unicode, which the message tells. */
static int compile(struct unpu_pretok *pretok, const char *pattern, const struct unpu_log *log)
{
	PCRE2_UCHAR text[128];
	PCRE2_SIZE offset;
	int error;
	pcre2_code *code;

	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
			     &error, &offset, NULL);
	if (!code && error == PCRE2_ERROR_HEAP_FAILED)
		return -ENOMEM;
	if (!code) {
		pcre2_get_error_message(error, text, sizeof(text));
		return unpu_fail(log, -ENOSYS, "pre-tokenizer '%s': %s", pretok->kind->name,
				 (char *)text);
	}
	/* Without it (not built in, or memory may not be executable) matching is interpreted. */
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	pretok->code[pretok->num++] = code;
	return 0;
}

int unpu_pretok_create(struct unpu_str name, const struct unpu_log *log,
		       struct unpu_pretok **out)
{
	const struct pretok_kind *kind = find_kind(name);
	struct unpu_pretok *pretok;
	uint32_t i;
	int err = 0;

	if (!kind)
		return fail_name(name, log);
	pretok = calloc(1, sizeof(*pretok));
	if (!pretok)
		return -ENOMEM;
	pretok->kind = kind;
	pretok->limits = pcre2_match_context_create(NULL);
	if (!pretok->limits)
		err = -ENOMEM;
	for (i = 0; !err && i < MAX_PATTERNS && kind->patterns[i]; i++)
		err = compile(pretok, kind->patterns[i], log);
	if (err) {
		unpu_pretok_destroy(pretok);
		return err;
	}
	pcre2_set_heap_limit(pretok->limits, HEAP_LIMIT_KIB);
	unpu_pretok_set_limit(pretok, MATCH_LIMIT);
	*out = pretok;
	return 0;
}

void unpu_pretok_destroy(struct unpu_pretok *pretok)
{
	uint32_t i;

	if (!pretok)
		return;
	for (i = 0; i < pretok->num; i++)
		pcre2_code_free(pretok->code[i]);
	pcre2_match_context_free(pretok->limits);
	free(pretok);
}

bool unpu_pretok_ignore_merges(const struct unpu_pretok *pretok)
{
	return pretok->kind->ignore_merges;
}

bool unpu_pretok_add_bos(const struct unpu_pretok *pretok)
{
	return pretok->kind->add_bos;
}

void unpu_pretok_set_limit(struct unpu_pretok *pretok, uint32_t limit)
{
	pcre2_set_match_limit(pretok->limits, limit);
}

struct split {
	const struct unpu_pretok *pretok;
	pcre2_match_data *match;
	unpu_piece_fn *fn;
	void *arg;
};

/*
 * text is UTF-8, which is why PCRE2 need not check it: its own check (as its own mode for invalid
 * UTF-8) looks at all the text that is left at each match, which is quadratic.
 */
static int match_next(const struct split *s, uint32_t level, const char *text, size_t length,
		      size_t from, size_t *start, size_t *end)
{
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
	uint32_t options = PCRE2_NO_UTF_CHECK;
	int rc;

	rc = pcre2_match(s->pretok->code[level], (PCRE2_SPTR)text, length, from, options,
			 s->match, s->pretok->limits);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(s->pretok->code[level], (PCRE2_SPTR)text, length, from,
				 options | PCRE2_NO_JIT, s->match, s->pretok->limits);
	if (rc == PCRE2_ERROR_NOMEMORY)
		return -ENOMEM;
	if (rc < 0)
		return 0;
	*start = range[0];
	*end = range[1];
	return *end > *start;
}

/* Cuts a fragment by the pattern of this level, and what it leaves by those of the next ones. */
static int split_level(const struct split *s, uint32_t level, const char *text, size_t length)
{
	size_t at = 0, start, end;
	int rc;

	if (length == 0)
		return 0;
	if (level == s->pretok->num)
		return s->fn(s->arg, text, length);
	while (at < length) {
		rc = match_next(s, level, text, length, at, &start, &end);
		if (rc < 0)
			return rc;
		if (rc == 0)
			start = end = length;
		rc = split_level(s, level + 1, text + at, start - at);
		if (!rc)
			rc = split_level(s, level + 1, text + start, end - start);
		if (rc)
			return rc;
		at = end;
	}
	return 0;
}

/* How many bytes at text are characters throughout, or, when the first is not, are none. */
static size_t run_length(const char *text, size_t length, bool *valid)
{
	uint32_t code;
	size_t n = unpu_utf8_decode(text, length, &code);
	size_t step;

	*valid = n > 0;
	if (n == 0)
		n = 1;
	for (; n < length; n += step ? step : 1) {
		step = unpu_utf8_decode(text + n, length - n, &code);
		if ((step > 0) != *valid)
			break;
	}
	return n;
}

int unpu_pretok_split(const struct unpu_pretok *pretok, const char *text, size_t length,
		      unpu_piece_fn *fn, void *arg)
{
	struct split s = { .pretok = pretok, .fn = fn, .arg = arg };
	size_t n;
	bool valid;
	int rc = 0;

	s.match = pcre2_match_data_create(1, NULL);
	if (!s.match)
		return -ENOMEM;
	for (; !rc && length > 0; text += n, length -= n) {
		n = run_length(text, length, &valid);
		rc = valid ? split_level(&s, 0, text, n) : fn(arg, text, n);
	}
	pcre2_match_data_free(s.match);
	return rc;
}
