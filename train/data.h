/* SPDX-License-Identifier: MIT */
/*
 * What a network learns from: texts as tokens. A file is JSON lines (jsonl.h), of which only the
 * answers are learned, or plain text, of which all is.
 */
#ifndef UNPU_TRAIN_DATA_H
#define UNPU_TRAIN_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"
#include "train/net.h"

struct unpu_tokenizer;

/* Text pairs as they were read; plain text has prompts of no length. */
struct unpu_text_pair {
	const char *prompt, *answer;
	size_t prompt_length, answer_length;
	uint32_t line;			/* in the file, from 1 */
};

struct unpu_texts {
	char *name, *bytes;		/* of the file; pairs point into it */
	size_t size;
	struct unpu_text_pair *pairs;
	uint32_t num_pairs;
	bool plain;
};

/* data is taken over, to be freed with free(), also on error. name is for messages. -EINVAL: one
 * line names the file, the line and what is wrong there; -ENOMEM. */
int unpu_texts_init(struct unpu_texts *texts, const char *name, char *data, size_t size,
		    const struct unpu_log *log);
void unpu_texts_finish(struct unpu_texts *texts);

/* Sequences one after the other, as batches have them. */
struct unpu_samples {
	int32_t *tokens, *targets;
	uint32_t *starts;		/* count + 1 */
	uint32_t count;
	size_t rows, num_targets, max_rows;
};

/*
 * A pair becomes the tokens of prompt and newline, those of the answer, and an end of text; plain
 * text becomes windows of `context` tokens. -EINVAL: a pair that is longer than the context;
 * -ENOMEM.
 */
int unpu_samples_init(struct unpu_samples *samples, const struct unpu_texts *texts,
		      const struct unpu_tokenizer *tok, uint32_t end, uint32_t context,
		      const struct unpu_log *log);
void unpu_samples_finish(struct unpu_samples *samples);

/* Takes every nth sequence out into another set. -ENOMEM */
int unpu_samples_split(struct unpu_samples *samples, uint32_t nth, struct unpu_samples *out);

/* Sequences in an order of their own for each epoch, by seed and epoch alone. */
struct unpu_order {
	uint32_t *index;
	uint32_t count;
};
int unpu_order_init(struct unpu_order *order, uint32_t count);
void unpu_order_shuffle(struct unpu_order *order, uint64_t seed, uint64_t epoch);
void unpu_order_finish(struct unpu_order *order);

/* Copies of sequences, which grow as they must. */
struct unpu_batch {
	struct unpu_net_batch view;
	int32_t *tokens, *targets;
	uint32_t *starts;
	size_t max_rows, max_sequences;
	uint32_t num_targets;
};
/* Sequences order[first .. first + count). -ENOMEM */
int unpu_batch_fill(struct unpu_batch *batch, const struct unpu_samples *samples,
		    const uint32_t *order, uint32_t count);
void unpu_batch_finish(struct unpu_batch *batch);

#endif
