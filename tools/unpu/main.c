/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/docs.h"
#include "tools/unpu/out.h"

static const struct command *const commands[] = {
	&cmd_run,
#if UNPU_CHAT
	&cmd_chat,
#endif
	&cmd_eval, &cmd_tokenize, &cmd_detokenize, &cmd_bench, &cmd_info, &cmd_pack, &cmd_devices,
};
#define NUM_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

/*
 * A standard descriptor that is closed would be the next file that is opened: the model would be
 * read as the prompt, or written over. Opened the wrong way round, it gives EBADF as it should.
 */
static bool hold_standard_descriptors(void)
{
	int fd, held;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		held = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
		if (held != fd)
			return false;
	}
	return true;
}

static int help_all(void)
{
	size_t i;

	out_text("Usage: unpu COMMAND MODEL [OPTIONS]\n\n"
		 "Runs micro language models from GGUF files.\n\n");
	for (i = 0; i < NUM_COMMANDS; i++)
		out_printf("  %-12s %s\n", commands[i]->name, commands[i]->brief);
	out_text("\nunpu COMMAND --help lists a command's options; unpu --version says which\n"
		 "one this is. Exit status: 0; 1 after an error; 2 when the command line is\n"
		 "wrong; 130 after Ctrl-C.\n");
	return EXIT_OK;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct settings settings;
	bool help;
	int status;

	status = options_parse(command, argc, argv, &settings, &help);
	if (status)
		return status;
	if (help) {
		options_help(command);
		return EXIT_OK;
	}
	return command->run(&settings);
}

static int dispatch(int argc, char **argv)
{
	size_t i;

	if (argc < 2)
		return fail_usage("usage: unpu COMMAND MODEL [OPTIONS] "
				  "(unpu --help lists the commands)");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help_all();
	if (!strcmp(argv[1], "--print-docs")) {
		const struct command_list list = { commands, NUM_COMMANDS };

		return docs_main(&list, argc - 2, argv + 2);
	}
	if (!strcmp(argv[1], "--version")) {
		out_text("unpu " UNPU_VERSION_STRING "\n");
		return EXIT_OK;
	}
	for (i = 0; i < NUM_COMMANDS; i++) {
		if (!strcmp(argv[1], commands[i]->name))
			return run_command(commands[i], argc - 2, argv + 2);
	}
	return fail_usage("unknown %s '%s' (unpu --help lists the commands)",
			  argv[1][0] == '-' ? "option" : "command", argv[1]);
}

int main(int argc, char **argv)
{
	if (!hold_standard_descriptors())
		return EXIT_ERROR;
	signal(SIGPIPE, SIG_IGN);
	/* A file above the limit of this user is an error like a full disk. */
	signal(SIGXFSZ, SIG_IGN);
	return out_finish(dispatch(argc, argv));
}
