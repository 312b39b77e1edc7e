/* SPDX-License-Identifier: MIT */
/*
 * How well a model foresees a text. Windows of tokens one after the other, the first token of each
 * replaced by the token that begins a text, if the model has one; in each, the tokens of the second
 * half but its first are scored, those after position window / 2. What is left at the end is not.
 * So llama.cpp's perplexity does it, and the numbers compare.
 */
#ifndef UNPU_TOOL_PERPLEXITY_H
#define UNPU_TOOL_PERPLEXITY_H

#include "tools/unpu/commands.h"

/* The text of --text, opened before the model is loaded and read after. */
int perplexity_main(const struct settings *settings, struct input *text);

#endif
