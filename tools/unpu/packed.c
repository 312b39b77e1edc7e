/* SPDX-License-Identifier: MIT */
#include "tools/unpu/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/unpu/out.h"

/* Made once the weights are there; its path NULL: not to be made. */
static struct output cache;
static char cache_path[PATH_MAX];
static bool fits;		/* as far as can be seen from outside */
static char misfit[UNPU_PACKED_WHY];	/* "": there was none, or it may fit */

static int open_packed(const char *path, int *fd)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return *fd < 0 ? fail("%s: %s", path, strerror(errno)) : EXIT_OK;
}

static int make_folder(void)
{
	char *slash;

	for (slash = strchr(cache_path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int ret;

		*slash = '\0';
		ret = mkdir(cache_path, 0700);
		*slash = '/';
		if (ret && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* One for each model: numbers of devices and times change with mounts and copies. */
static int name_cache(const struct stat *st)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	const char *folder = base && base[0] == '/' ? base : home;
	int n;

	if (!folder || folder[0] != '/')
		return -ENOENT;
	n = snprintf(cache_path, sizeof(cache_path), "%s%s/unpu/packed.%llx-%llx",
		     folder, folder == base ? "" : "/.cache", (unsigned long long)st->st_ino,
		     (unsigned long long)st->st_size);
	return n > 0 && n < (int)sizeof(cache_path) ? 0 : -ENAMETOOLONG;
}

/* The one that is there. */
static void open_old(int model, const struct stat *st, int *fd)
{
	int ret;

	*fd = open(cache_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return;
	ret = unpu_packed_check(*fd, model, 0, (uint64_t)st->st_size, misfit);
	fits = ret > 0;
	if (ret >= 0)
		return;
	close(*fd);
	*fd = -1;
}

/*
 * A cache that cannot be is no reason not to run. The sandbox lets no file be made: where another
 * one may be needed, it is begun here.
 */
static void open_cache(int model, const struct stat *st, int *fd)
{
	int err = name_cache(st);
	struct stat there;

	misfit[0] = '\0';
	fits = false;
	if (!err)
		open_old(model, st, fd);
	if (fits || cache.path)
		return;
	/* Its reader would be waited for. */
	if (!err && !stat(cache_path, &there) && S_ISFIFO(there.st_mode)) {
		fail("no cache: %s is a pipe", cache_path);
		return;
	}
	err = err ? err : make_folder();
	if (err == -ENOENT)
		fail("no cache: neither XDG_CACHE_HOME nor HOME names a folder for it");
	else if (err)
		fail("no cache: %s: %s", cache_path, strerror(-err));
	else
		output_open(&cache, cache_path);
}

int packed_open(const struct settings *settings, int model, const struct stat *st, int *fd)
{
	*fd = -1;
	if (settings->packed)
		return open_packed(settings->packed, fd);
	if (settings->cache && S_ISREG(st->st_mode))
		open_cache(model, st, fd);
	return EXIT_OK;
}

void packed_keep(struct unpu_model *model)
{
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;
	bool is_cpu = model && !unpu_model_info(model, &info) && !strcmp(info.device, "cpu");

	if (fits && is_cpu && !info.packed)
		say("warning: %s does not fit: remove it for another one to be made", cache_path);
	fits = false;
	if (!cache.path)
		return;
	/* That there is none is no error of the run. */
	log_only_warns(true);
	if (!is_cpu || unpu_model_pack_fd(model, cache.fd))
		output_discard(&cache);
	else if (!output_commit(&cache) && misfit[0])
		say("warning: %s %s: another one took its place", cache_path, misfit);
	log_only_warns(false);
}
