/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/json.h"
#include "tools/unpu/out.h"
#include "tools/unpu/run.h"
#include "tools/lib/sandbox.h"

static double per_second(uint64_t count, uint64_t ns)
{
	return ns ? (double)count * 1e9 / (double)ns : 0;
}

static const struct {
	int reason;
	const char *word, *text;
} reasons[] = {
	{ UNPU_REASON_LENGTH, "length", "as many tokens as asked for" },
	{ UNPU_REASON_END, "end", "end of text" },
	{ UNPU_REASON_CONTEXT, "context", "context full" },
	{ UNPU_REASON_CALLBACK, "callback", "stdout closed" },
	{ UNPU_REASON_STOP, "stop", "stop string" },
	{ UNPU_REASON_CANCELLED, "cancelled", "interrupted" },
};

static size_t reason_of(const struct run *run)
{
	size_t i = sizeof(reasons) / sizeof(reasons[0]);

	while (--i && reasons[i].reason != run->reason)
		;
	return i;
}

void run_stats(const struct run *run)
{
	struct unpu_session_info s = UNPU_SESSION_INFO_INIT;
	struct unpu_model_info m = UNPU_MODEL_INFO_INIT;
	char kept[32] = "";

	unpu_session_info(run->session, &s);
	unpu_model_info(run->model, &m);
	if (run->kept)
		snprintf(kept, sizeof(kept), ", %" PRIu32 " kept", run->kept);
	fprintf(stderr, "load     %.1f ms\n", (double)run->load_ns / 1e6);
	fprintf(stderr, "prompt   %" PRIu64 " tokens, %.1f tokens/s%s\n", s.prompt_tokens,
		per_second(s.prompt_tokens, s.prompt_ns), kept);
	fprintf(stderr, "decode   %" PRIu64 " tokens, %.1f tokens/s\n", s.generated_tokens,
		per_second(s.generated_tokens, s.generate_ns));
	if (s.drafted_tokens)
		fprintf(stderr, "drafts   %" PRIu64 " of %" PRIu64 " tokens were right\n",
			s.accepted_tokens, s.drafted_tokens);
	fprintf(stderr, "memory   %.1f MiB at most, of it weights %.1f, kv %.1f, work %.1f\n",
		mebibytes(peak_memory()), mebibytes(m.weight_bytes), mebibytes(s.kv_bytes),
		mebibytes(s.work_bytes));
	fprintf(stderr, "context  %" PRIu32 " of %" PRIu32 " tokens, model's %" PRIu32 "\n", s.used,
		s.context, m.context);
	fprintf(stderr, "kv       %s, %" PRIu64 " bytes\n", kv_name(run->settings->kv), s.kv_bytes);
	fprintf(stderr, "seed     %" PRIu64 "\n", run->seed);
	fprintf(stderr, "device   %s, %s\n", m.device, m.device_name);
	fprintf(stderr, "sandbox  %s\n", sandbox_status());
	if (run->generated)
		fprintf(stderr, "end      %s\n", reasons[reason_of(run)].text);
}

static void json_stats(const struct run *run)
{
	struct unpu_session_info s = UNPU_SESSION_INFO_INIT;
	struct unpu_model_info m = UNPU_MODEL_INFO_INIT;

	unpu_session_info(run->session, &s);
	unpu_model_info(run->model, &m);
	json_open("stats", '{');
	json_number("load_ms", (double)run->load_ns / 1e6);
	json_count("prompt_tokens", s.prompt_tokens);
	json_number("prompt_tps", per_second(s.prompt_tokens, s.prompt_ns));
	json_count("kept_tokens", run->kept);
	json_count("generated_tokens", s.generated_tokens);
	json_number("decode_tps", per_second(s.generated_tokens, s.generate_ns));
	json_count("drafted_tokens", s.drafted_tokens);
	json_count("accepted_tokens", s.accepted_tokens);
	json_number("rss_mb", mebibytes(peak_memory()));
	json_number("weights_mb", mebibytes(m.weight_bytes));
	json_number("kv_mb", mebibytes(s.kv_bytes));
	json_number("work_mb", mebibytes(s.work_bytes));
	json_count("used", s.used);
	json_count("context", s.context);
	json_count("model_context", m.context);
	json_text("kv", kv_name(run->settings->kv));
	json_count("kv_bytes", s.kv_bytes);
	json_count("seed", run->seed);
	json_text("device", m.device);
	json_text("device_name", m.device_name);
	json_count("threads", m.threads);
	json_text("sandbox", sandbox_status());
	json_close('}');
}

int run_json(const struct run *run)
{
	int64_t count = unpu_session_tokens(run->session, run->first, NULL, 0), i;
	uint32_t *ids;

	count = count > 0 ? count : 0;
	ids = calloc((size_t)count + 1, sizeof(*ids));
	if (!ids)
		return fail("the ids: %s", strerror(ENOMEM));
	unpu_session_tokens(run->session, run->first, ids, (size_t)count);
	json_open(NULL, '{');
	json_string("text", run->made ? run->made : "", run->made_length);
	json_open("ids", '[');
	for (i = 0; i < count; i++)
		json_count(NULL, ids[i]);
	json_close(']');
	json_text("reason", reasons[reason_of(run)].word);
	json_stats(run);
	json_close('}');
	free(ids);
	return EXIT_OK;
}
