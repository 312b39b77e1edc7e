/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/unpu.h"
#include "tools/unpu-vdev/vdev.h"
#include "uapi/unpu_proto.h"

static const char usage[] =
"usage: unpu-vdev [OPTIONS] SOCKET\n"
"\n"
"The other end of the unpu virtual NPU: guests connect to SOCKET and run their programs on this\n"
"machine's engine. A guest of QEMU gets its NPU by\n"
"\n"
"  -chardev socket,path=SOCKET,id=unpu -device ivshmem-doorbell,chardev=unpu,vectors=2\n"
"\n"
"and drives it with unpu.ko.\n"
"\n"
"  -d, --device ID     the engine: cpu (default), vulkan:N\n"
"  -t, --threads N     of the cpu engine; default: processors that this process may use\n"
"      --window SIZE   memory that a guest maps, a power of two; default 64M\n"
"      --memory SIZE   of the device, for each guest; default half of this machine's\n"
"      --guests N      at once; default 16, at most 64\n"
"      --group NAME    who besides this user may connect; default nobody\n"
"      --stats         a line each second; SIGUSR1 asks for one\n"
"      --no-sandbox    no Landlock, no seccomp\n"
"  -h, --help          this text\n"
"      --version       which version this is\n"
"\n"
"SIZE is a number with K, M or G behind it. SIGTERM and SIGINT end it.\n";

enum { OPT_WINDOW = 256, OPT_MEMORY, OPT_GUESTS, OPT_GROUP, OPT_STATS, OPT_NO_SANDBOX,
       OPT_VERSION };

static const struct option options[] = {
	{ "device", required_argument, NULL, 'd' },
	{ "threads", required_argument, NULL, 't' },
	{ "window", required_argument, NULL, OPT_WINDOW },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "guests", required_argument, NULL, OPT_GUESTS },
	{ "group", required_argument, NULL, OPT_GROUP },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "no-sandbox", no_argument, NULL, OPT_NO_SANDBOX },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void __attribute__((noreturn, format(printf, 1, 2))) wrong(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	vdev_log("%s; see --help", text);
	exit(VDEV_EXIT_USAGE);
}

static uint64_t number(const char *name, const char *text, uint64_t most)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || !value || value > most)
		wrong("%s takes 1 to %llu, not \"%s\"", name, (unsigned long long)most, text);
	return value;
}

static uint64_t size(const char *name, const char *text, uint64_t least, uint64_t most)
{
	static const char units[] = "KMG";
	unsigned long long value;
	const char *unit;
	char *end;
	int shift = 0;

	errno = 0;
	value = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		shift = 10 * (int)(unit - units + 1);
		end++;
	}
	if (errno || end == text || *end || text[0] == '-' || value > most >> shift ||
	    value << shift < least)
		wrong("%s takes %lluM to %lluM, not \"%s\"", name,
		      (unsigned long long)least >> 20, (unsigned long long)most >> 20, text);
	return value << shift;
}

static gid_t group(const char *name)
{
	const struct group *entry = getgrnam(name);

	if (!entry)
		wrong("there is no group \"%s\"", name);
	return entry->gr_gid;
}

static const char *device(const char *id)
{
	const char *digits = id + 7;

	if (!strcmp(id, "cpu"))
		return id;
	if (strncmp(id, "vulkan:", 7) || !*digits || strlen(digits) > 2 ||
	    strspn(digits, "0123456789") != strlen(digits))
		wrong("\"%s\" is no engine: cpu or vulkan:N", id);
	return id;
}

static void set(struct vdev_config *config, int option)
{
	switch (option) {
	case 'd':
		config->device = device(optarg);
		break;
	case 't':
		config->threads = (uint32_t)number("--threads", optarg, 64);
		break;
	case OPT_WINDOW:
		config->window = size("--window", optarg, UNPU_PROTO_MIN_WINDOW, VDEV_MAX_WINDOW);
		if (config->window & (config->window - 1))
			wrong("--window takes a power of two, not \"%s\"", optarg);
		break;
	case OPT_MEMORY:
		config->memory = size("--memory", optarg, 1 << 20, 1ull << 50);
		break;
	case OPT_GUESTS:
		config->guests = (uint32_t)number("--guests", optarg, VDEV_MAX_GUESTS);
		break;
	case OPT_GROUP:
		config->group = group(optarg);
		config->has_group = true;
		break;
	case OPT_STATS:
		config->stats = true;
		break;
	case OPT_NO_SANDBOX:
		config->no_sandbox = true;
		break;
	case 'h':
		fputs(usage, stdout);
		exit(fflush(stdout) ? VDEV_EXIT_ERROR : VDEV_EXIT_OK);
	case OPT_VERSION:
		printf("unpu-vdev %s\n", UNPU_VERSION_STRING);
		exit(fflush(stdout) ? VDEV_EXIT_ERROR : VDEV_EXIT_OK);
	default:
		exit(VDEV_EXIT_USAGE);	/* getopt() has said why */
	}
}

/* In a process of its own: a driver that crashes, and its threads, are gone before the first fork
 * of a worker. */
static bool device_opens(const struct vdev_config *config)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(vdev_worker_try(config) ? VDEV_EXIT_ERROR : VDEV_EXIT_OK);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	if (pid > 0 && !status)
		return true;
	vdev_log("%s does not open%s", config->device,
		 pid > 0 && WIFSIGNALED(status) ? ": its driver crashed" : "");
	return false;
}

int main(int argc, char **argv)
{
	struct vdev_config config = {
		.device = "cpu", .window = 64ull << 20, .guests = 16,
		.memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2,
	};
	int option;

	while ((option = getopt_long(argc, argv, "d:t:h", options, NULL)) >= 0)
		set(&config, option);
	if (optind + 1 != argc)
		wrong(optind == argc ? "which socket?" : "one socket, not %s too",
		      argv[argc - 1]);
	config.socket = argv[optind];
	if (!device_opens(&config))
		return VDEV_EXIT_ERROR;
	return vdev_broker_run(&config);
}
