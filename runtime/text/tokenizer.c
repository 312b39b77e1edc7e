/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/bpe.h"
#include "runtime/text/pretok.h"
#include "runtime/text/spm.h"
#include "runtime/text/tokenizer.h"

#define KEY(name)	"tokenizer.ggml." name

#define MAX_EOG		32

struct unpu_tokenizer {
	struct unpu_log log;
	struct unpu_vocab vocab;
	struct unpu_bpe bpe;
	struct unpu_spm spm;
	struct unpu_pretok *pretok;	/* NULL: SentencePiece */
	uint32_t bos, eos, unknown;	/* or UNPU_NO_TOKEN */
	bool add_bos, add_eos, space_prefix;
	uint32_t eog[MAX_EOG];
	uint32_t num_eog;
};

/* What the file does not say. */
struct defaults {
	uint32_t bos, eos, unknown;
	bool add_bos, space_prefix;
};

static const struct defaults spm_defaults = {
	.bos = 1, .eos = 2, .unknown = 0, .add_bos = true, .space_prefix = true,
};

static const struct defaults bpe_defaults = {
	.bos = UNPU_NO_TOKEN, .eos = UNPU_NO_TOKEN, .unknown = UNPU_NO_TOKEN,
};

/* Texts of tokens that end a turn or a text in published models, whatever the file says of them. */
static const char *const end_texts[] = {
	"<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>",
	"<end_of_turn>", "<|end|>", "<|EOT|>", "<EOT>",
};

/* Texts that only the parts of a conversation and of a text are marked with. */
static const char *const marker_texts[] = {
	"<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>",
	"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
	"<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
	"<|endoftext|>", "<|EOT|>",
};

/*
 * Some files call them ordinary or user-defined tokens. Then any text that has them would end a
 * turn or begin another.
 */
static void guard_markers(struct unpu_vocab *vocab)
{
	uint32_t id;
	size_t i;

	for (i = 0; i < sizeof(marker_texts) / sizeof(marker_texts[0]); i++) {
		id = unpu_vocab_find(vocab, marker_texts[i], strlen(marker_texts[i]));
		if (id != UNPU_NO_TOKEN)
			vocab->tokens[id].type = UNPU_TOKEN_CONTROL;
	}
}

/* Likewise what the file itself says to begin and to end a text, unless that is ordinary text. */
static void guard_ends(struct unpu_tokenizer *tok)
{
	struct unpu_token *tokens = tok->vocab.tokens;

	if (tok->bos != UNPU_NO_TOKEN && tokens[tok->bos].type == UNPU_TOKEN_USER_DEFINED)
		tokens[tok->bos].type = UNPU_TOKEN_CONTROL;
	if (tok->eos != UNPU_NO_TOKEN && tokens[tok->eos].type == UNPU_TOKEN_USER_DEFINED)
		tokens[tok->eos].type = UNPU_TOKEN_CONTROL;
}

static int read_id(const struct unpu_tokenizer *tok, const struct unpu_gguf *gguf,
		   const char *key, uint32_t otherwise, uint32_t *id)
{
	int err = unpu_gguf_u32(gguf, key, 0, tok->vocab.num_tokens - 1, id);

	if (err != -ENOENT)
		return err;
	*id = otherwise < tok->vocab.num_tokens ? otherwise : UNPU_NO_TOKEN;
	return 0;
}

static int read_flag(const struct unpu_gguf *gguf, const char *key, bool otherwise, bool *flag)
{
	int err = unpu_gguf_bool(gguf, key, flag);

	if (err != -ENOENT)
		return err;
	*flag = otherwise;
	return 0;
}

static int read_settings(struct unpu_tokenizer *tok, const struct unpu_gguf *gguf,
			 const struct defaults *defaults, bool add_bos)
{
	int err;

	err = read_id(tok, gguf, KEY("bos_token_id"), defaults->bos, &tok->bos);
	if (!err)
		err = read_id(tok, gguf, KEY("eos_token_id"), defaults->eos, &tok->eos);
	if (!err)
		err = read_id(tok, gguf, KEY("unknown_token_id"), defaults->unknown,
			      &tok->unknown);
	if (!err)
		err = read_flag(gguf, KEY("add_bos_token"), add_bos, &tok->add_bos);
	if (!err)
		err = read_flag(gguf, KEY("add_eos_token"), false, &tok->add_eos);
	if (!err)
		err = read_flag(gguf, KEY("add_space_prefix"), defaults->space_prefix,
				&tok->space_prefix);
	return err;
}

static int create_bpe(struct unpu_tokenizer *tok, const struct unpu_gguf *gguf)
{
	struct unpu_str pre = { "default", 7 };
	int err;

	err = unpu_gguf_str(gguf, KEY("pre"), &pre);
	if (err && err != -ENOENT)
		return err;
	err = unpu_pretok_create(pre, &tok->log, &tok->pretok);
	if (err)
		return err;
	err = read_settings(tok, gguf, &bpe_defaults, unpu_pretok_add_bos(tok->pretok));
	if (err)
		return err;
	tok->space_prefix = false;
	return unpu_bpe_init(&tok->bpe, &tok->vocab, gguf,
			     unpu_pretok_ignore_merges(tok->pretok), &tok->log);
}

/* A file without token types leaves it to the ids to say which tokens are not text. */
static void type_by_id(struct unpu_tokenizer *tok)
{
	struct unpu_token *tokens = tok->vocab.tokens;

	if (tok->bos != UNPU_NO_TOKEN)
		tokens[tok->bos].type = UNPU_TOKEN_CONTROL;
	if (tok->eos != UNPU_NO_TOKEN)
		tokens[tok->eos].type = UNPU_TOKEN_CONTROL;
	if (tok->unknown != UNPU_NO_TOKEN && tok->unknown != tok->bos && tok->unknown != tok->eos)
		tokens[tok->unknown].type = UNPU_TOKEN_UNKNOWN;
}

static int create_spm(struct unpu_tokenizer *tok, const struct unpu_gguf *gguf)
{
	int err;

	err = read_settings(tok, gguf, &spm_defaults, spm_defaults.add_bos);
	if (err)
		return err;
	return unpu_spm_init(&tok->spm, &tok->vocab, gguf, tok->unknown, &tok->log);
}

static void add_eog(struct unpu_tokenizer *tok, uint32_t id)
{
	if (id != UNPU_NO_TOKEN && !unpu_tokenizer_is_eog(tok, id) && tok->num_eog < MAX_EOG)
		tok->eog[tok->num_eog++] = id;
}

static int find_eog(struct unpu_tokenizer *tok, const struct unpu_gguf *gguf)
{
	uint32_t id;
	size_t i;
	int err;

	add_eog(tok, tok->eos);
	err = read_id(tok, gguf, KEY("eot_token_id"), UNPU_NO_TOKEN, &id);
	if (err)
		return err;
	add_eog(tok, id);
	for (i = 0; i < sizeof(end_texts) / sizeof(end_texts[0]); i++)
		add_eog(tok, unpu_vocab_find(&tok->vocab, end_texts[i], strlen(end_texts[i])));
	id = unpu_vocab_find(&tok->vocab, "</s>", 4);
	if (id != UNPU_NO_TOKEN && tok->vocab.tokens[id].type == UNPU_TOKEN_CONTROL)
		add_eog(tok, id);
	return 0;
}

static bool equals(struct unpu_str text, const char *name)
{
	return text.len == strlen(name) && memcmp(text.ptr, name, text.len) == 0;
}

static int create(struct unpu_tokenizer *tok, const struct unpu_gguf *gguf)
{
	struct unpu_str model;
	const void *types;
	uint64_t count;
	bool bpe;
	int err;

	err = unpu_gguf_str(gguf, KEY("model"), &model);
	if (err == -ENOENT)
		return unpu_fail(&tok->log, -EINVAL, KEY("model") " is missing");
	if (err)
		return err;
	bpe = equals(model, "gpt2");
	if (!bpe && !equals(model, "llama"))
		return unpu_fail(&tok->log, -EINVAL, KEY("model")
				 ": tokenizer '%.*s' is not supported (gpt2, llama are)",
				 model.len > 64 ? 64 : (int)model.len, model.ptr);
	err = unpu_vocab_init(&tok->vocab, gguf, &tok->log);
	if (err)
		return err;
	guard_markers(&tok->vocab);
	err = bpe ? create_bpe(tok, gguf) : create_spm(tok, gguf);
	if (err)
		return err;
	if (unpu_gguf_array(gguf, KEY("token_type"), UNPU_GGUF_I32, &types, &count) == -ENOENT)
		type_by_id(tok);
	guard_ends(tok);
	err = find_eog(tok, gguf);
	if (err)
		return err;
	return unpu_vocab_index_special(&tok->vocab);
}

int unpu_tokenizer_create(const struct unpu_gguf *gguf, const struct unpu_log *log,
			  struct unpu_tokenizer **out)
{
	struct unpu_tokenizer *tok = calloc(1, sizeof(*tok));
	int err;

	if (!tok)
		return unpu_fail(log, -ENOMEM, "no memory for the tokenizer");
	if (log)
		tok->log = *log;
	err = create(tok, gguf);
	if (err == -ENOMEM)
		unpu_log(&tok->log, UNPU_LOG_ERROR, "no memory for the tokenizer");
	if (err) {
		unpu_tokenizer_destroy(tok);
		return err;
	}
	*out = tok;
	return 0;
}

void unpu_tokenizer_destroy(struct unpu_tokenizer *tok)
{
	if (!tok)
		return;
	unpu_bpe_finish(&tok->bpe);
	unpu_pretok_destroy(tok->pretok);
	unpu_vocab_finish(&tok->vocab);
	free(tok);
}

uint32_t unpu_tokenizer_vocab(const struct unpu_tokenizer *tok)
{
	return tok->vocab.num_tokens;
}

bool unpu_tokenizer_space_prefix(const struct unpu_tokenizer *tok)
{
	return tok->space_prefix;
}

static bool find_text(const struct unpu_tokenizer *tok, uint32_t id, uint32_t *out,
		      struct unpu_str *text)
{
	if (id == UNPU_NO_TOKEN)
		return false;
	*out = id;
	*text = unpu_vocab_text(&tok->vocab, id);
	return true;
}

bool unpu_tokenizer_bos(const struct unpu_tokenizer *tok, uint32_t *id, struct unpu_str *text)
{
	return find_text(tok, tok->bos, id, text);
}

bool unpu_tokenizer_eos(const struct unpu_tokenizer *tok, uint32_t *id, struct unpu_str *text)
{
	return find_text(tok, tok->eos, id, text);
}

bool unpu_tokenizer_adds_bos(const struct unpu_tokenizer *tok)
{
	return tok->add_bos;
}

uint32_t unpu_tokenizer_eog(const struct unpu_tokenizer *tok, uint32_t *ids, uint32_t max)
{
	uint32_t i;

	for (i = 0; i < tok->num_eog && i < max; i++)
		ids[i] = tok->eog[i];
	return tok->num_eog;
}

bool unpu_tokenizer_is_eog(const struct unpu_tokenizer *tok, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < tok->num_eog; i++)
		if (tok->eog[i] == id)
			return true;
	return false;
}

/* ---- text to ids ------------------------------------------------------------------------ */

struct encode {
	const struct unpu_tokenizer *tok;
	struct unpu_merge_work work;
	struct unpu_ids out;
	const struct unpu_span *spans;	/* those that are not passed */
	size_t num_spans;
	bool after_special;	/* or at the start: where SentencePiece puts its space */
};

static int encode_piece(void *arg, const char *piece, size_t length)
{
	struct encode *e = arg;

	return unpu_bpe_encode(&e->tok->bpe, &e->work, piece, length, &e->out);
}

static int encode_plain(struct encode *e, const char *text, size_t length)
{
	const struct unpu_tokenizer *tok = e->tok;
	bool prefix = tok->space_prefix && e->after_special;

	if (length == 0)
		return 0;
	e->after_special = false;
	if (tok->pretok)
		return unpu_pretok_split(tok->pretok, text, length, encode_piece, e);
	return unpu_spm_encode(&tok->spm, &e->work, text, length, prefix, &e->out);
}

/*
 * The longest special token at text[i]. Those that the user defined are part of the text's language
 * and count everywhere; the others count where a span of them reaches to.
 */
static uint32_t special_at(const struct unpu_vocab *vocab, const char *text, size_t length,
			   size_t span)
{
	uint32_t defined = UNPU_NO_TOKEN, any = UNPU_NO_TOKEN;

	if (vocab->num_user_defined)
		defined = unpu_vocab_special_at(vocab, text, length, false);
	if (span && vocab->num_special)
		any = unpu_vocab_special_at(vocab, text, span, true);
	if (any == UNPU_NO_TOKEN || defined == UNPU_NO_TOKEN)
		return any == UNPU_NO_TOKEN ? defined : any;
	return vocab->tokens[defined].length > vocab->tokens[any].length ? defined : any;
}

/* Special tokens are cut out of text[at, end), which holds no span that is a token, first. */
static int encode_text(struct encode *e, const char *text, size_t at, size_t end)
{
	const struct unpu_vocab *vocab = &e->tok->vocab;
	size_t start = at, reach;
	uint32_t id;
	int err;

	if (at == end)		/* of no text, which may be NULL */
		return 0;
	while (at < end) {
		while (e->num_spans && e->spans->at + e->spans->length <= at) {
			e->spans++;
			e->num_spans--;
		}
		if (!vocab->num_special ||
		    (!vocab->num_user_defined && (!e->num_spans || e->spans->at >= end)))
			break;
		reach = e->num_spans && e->spans->at <= at ?
			e->spans->at + e->spans->length - at : 0;
		id = special_at(vocab, text + at, end - at, reach);
		if (id == UNPU_NO_TOKEN) {
			at++;
			continue;
		}
		err = encode_plain(e, text + start, at - start);
		if (err)
			return err;
		unpu_ids_add(&e->out, id);
		e->after_special = true;
		at += vocab->tokens[id].length;
		start = at;
	}
	return encode_plain(e, text + start, end - start);
}

static int encode_spans(struct encode *e, const char *text, size_t length)
{
	const struct unpu_span *spans = e->spans;
	size_t num = e->num_spans, first = 0, at = 0, i;
	int err;

	for (i = 0; i < num; i++) {
		if (spans[i].token == UNPU_SPAN_PARSE)
			continue;
		e->spans = &spans[first];
		e->num_spans = i - first;
		err = encode_text(e, text, at, spans[i].at);
		if (err)
			return err;
		unpu_ids_add(&e->out, spans[i].token);
		e->after_special = true;
		at = spans[i].at + spans[i].length;
		first = i + 1;
	}
	/* No spans at all may be NULL. */
	e->spans = num ? spans + first : NULL;
	e->num_spans = num - first;
	return encode_text(e, text, at, length);
}

static int64_t encode_all(struct encode *e, const char *text, size_t length)
{
	int err = encode_spans(e, text, length);

	unpu_merge_work_finish(&e->work);
	if (err)
		return unpu_fail(&e->tok->log, err, "tokenizing %zu bytes: %s",
				 length, err == -EFBIG ? "too many at once" : "no memory");
	return e->out.num;
}

int64_t unpu_tokenizer_encode_spans(const struct unpu_tokenizer *tok, const char *text,
				    size_t length, const struct unpu_span *spans, size_t num_spans,
				    bool begins, uint32_t *ids, size_t max)
{
	struct encode e = {
		.tok = tok, .out = { .ids = ids, .max = max }, .after_special = begins,
		.spans = spans, .num_spans = num_spans,
	};

	return encode_all(&e, text, length);
}

int64_t unpu_tokenizer_encode(const struct unpu_tokenizer *tok, const char *text, size_t length,
			      uint32_t flags, uint32_t *ids, size_t max)
{
	const struct unpu_span whole = { .length = length, .token = UNPU_SPAN_PARSE };
	struct encode e = {
		.tok = tok, .out = { .ids = ids, .max = max }, .after_special = true,
		.spans = &whole, .num_spans = flags & UNPU_TOKENIZE_PARSE_SPECIAL ? 1 : 0,
	};
	bool add = flags & UNPU_TOKENIZE_ADD_SPECIAL;
	int64_t num;

	if (add && tok->add_bos && tok->bos != UNPU_NO_TOKEN)
		unpu_ids_add(&e.out, tok->bos);
	num = encode_all(&e, text, length);
	if (num < 0)
		return num;
	if (add && tok->add_eos && tok->eos != UNPU_NO_TOKEN)
		unpu_ids_add(&e.out, tok->eos);
	return e.out.num;
}

/* ---- ids to text ------------------------------------------------------------------------ */

static size_t copy_text(struct unpu_str text, char *out, size_t max)
{
	memcpy(out, text.ptr, text.len < max ? text.len : max);
	return text.len;
}

int64_t unpu_tokenizer_piece(const struct unpu_tokenizer *tok, uint32_t id, char *text, size_t max)
{
	char none;

	if (id >= tok->vocab.num_tokens)
		return unpu_fail(&tok->log, -EINVAL, "token %u is outside the vocabulary of %u", id,
				 tok->vocab.num_tokens);
	if (max == 0)
		text = &none;
	switch (tok->vocab.tokens[id].type) {
	case UNPU_TOKEN_CONTROL:
	case UNPU_TOKEN_UNKNOWN:
		return 0;
	case UNPU_TOKEN_USER_DEFINED:
		return (int64_t)copy_text(unpu_vocab_text(&tok->vocab, id), text, max);
	default:
		if (!tok->pretok)
			return (int64_t)unpu_spm_decode(&tok->vocab, id, text, max);
		return (int64_t)unpu_bpe_decode(unpu_vocab_text(&tok->vocab, id), text, max);
	}
}

/*
 * Encoding put a space before the first token that is text, so it is not given back: that token is
 * written again, one byte to the left, through a copy (of a token, not of a text).
 */
static int64_t drop_space(const struct unpu_tokenizer *tok, uint32_t id, int64_t length,
			  char *text, size_t max)
{
	char *copy;

	if (tok->vocab.tokens[id].type == UNPU_TOKEN_USER_DEFINED)
		return length;
	copy = malloc((size_t)length);
	if (!copy)
		return unpu_fail(&tok->log, -ENOMEM, "no memory for the text of token %u", id);
	unpu_tokenizer_piece(tok, id, copy, (size_t)length);
	if (copy[0] == ' ') {
		length--;
		memcpy(text, copy + 1, (size_t)length < max ? (size_t)length : max);
	}
	free(copy);
	return length;
}

int64_t unpu_tokenizer_decode(const struct unpu_tokenizer *tok, const uint32_t *ids, size_t count,
			      char *text, size_t max)
{
	bool first = tok->space_prefix;
	int64_t total = 0, length;
	size_t i, room;
	char none;

	for (i = 0; i < count; i++) {
		char *at = (uint64_t)total < max ? text + total : &none;

		room = at == &none ? 0 : max - (size_t)total;
		length = unpu_tokenizer_piece(tok, ids[i], at, room);
		if (first && length > 0) {
			first = false;
			length = drop_space(tok, ids[i], length, at, room);
		}
		if (length < 0)
			return length;
		total += length;
	}
	return total;
}
