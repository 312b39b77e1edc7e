/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/out.h"

static const struct option options[] = {
	{ 'o', "output", OPTION_TEXT, OPTION_FIELD(output), "FILE", NULL, 0, 0,
	  "the file to write" },
	{ 0, "for", OPTION_TEXT, OPTION_FIELD(pack_for), "c|avx2|avx512vnni|neon|neon_dotprod",
	  NULL, 0, 0, "the instruction set of the machine that is to run it; default: this one's" },
	OPTION_THREADS,
	OPTION_NO_SANDBOX,
};

static int write_packed(struct unpu_model *model, struct output *out)
{
	int err = unpu_model_pack_fd(model, out->fd);

	return err ? fail_library(err, out->path) : output_commit(out);
}

/* The model would be gone, and what is packed of it is of no use without. */
static bool is_same_file(const char *a, const char *b)
{
	struct stat of_a, of_b;

	return !stat(a, &of_a) && !stat(b, &of_b) && of_a.st_dev == of_b.st_dev &&
	       of_a.st_ino == of_b.st_ino;
}

static int pack_main(const struct settings *settings)
{
	struct unpu_model *model = NULL;
	struct settings cpu = *settings;
	struct output out = { .fd = -1, .dir = -1 };
	int status;

	if (!settings->output)
		return fail_usage("pack: which file? (-o FILE)");
	if (is_same_file(settings->model, settings->output))
		return fail("pack: %s is the model itself", settings->output);
	status = output_open(&out, settings->output);
	cpu.device = "cpu";
	if (!status)
		status = model_open(&cpu, 0, &model);
	if (!status)
		status = write_packed(model, &out);
	output_discard(&out);
	unpu_model_destroy(model);
	return status;
}

static const struct doc_item examples[] = {
	{ "unpu pack model.gguf -o model.upk", "Once." },
	{ "unpu run model.gguf --packed model.upk -p 'Once'", "From then on." },
	{ "unpu pack model.gguf -o pi4.upk --for neon", "For a Raspberry Pi 4, on any machine." },
	{ NULL, NULL },
};

const struct command cmd_pack = {
	.name = "pack",
	.usage = "MODEL -o FILE",
	.brief = "weights as this machine's cpu takes them",
	.details = "Writes the weights of a model in the layout that the cpu reads them in, for "
		   "the option --packed: nothing is packed any more when the model is loaded, its "
		   "memory is the file's pages, and programs that run it at the same time share "
		   "them. The model's own file is needed beside it.\n\n"
		   "With --for, a fast machine packs for a small board: the file is, byte for "
		   "byte, what that board would write. `unpu devices` tells which instruction "
		   "set a machine's cpu has. One that takes other layouts, or another version of "
		   "unpu, passes the file over with a warning.",
	.more = "Only the cpu takes such files. A GPU has memory of its own, to which weights are "
		"copied at every load, packed on the way: of what a file saves, the copy and the "
		"memory, nothing would be left.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = pack_main,
};
