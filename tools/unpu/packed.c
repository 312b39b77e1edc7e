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
static bool is_there;	/* before */

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

/* A cache that cannot be is no reason not to run. */
static void open_cache(const struct stat *st, int *fd)
{
	int err = name_cache(st);

	if (!err)
		*fd = open(cache_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	is_there = *fd >= 0;
	if (is_there || cache.path)
		return;
	err = err ? err : make_folder();
	if (err == -ENOENT)
		fail("no cache: neither XDG_CACHE_HOME nor HOME names a folder for it");
	else if (err)
		fail("no cache: %s: %s", cache_path, strerror(-err));
	else
		output_open(&cache, cache_path);
}

int packed_open(const struct settings *settings, const struct stat *st, int *fd)
{
	*fd = -1;
	if (settings->packed)
		return open_packed(settings->packed, fd);
	if (settings->cache && S_ISREG(st->st_mode))
		open_cache(st, fd);
	return EXIT_OK;
}

void packed_keep(struct unpu_model *model)
{
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;
	bool is_cpu = model && !unpu_model_info(model, &info) && !strcmp(info.device, "cpu");

	/* The sandbox lets no file be replaced that was there. */
	if (is_there && is_cpu && !info.packed)
		fail("%s does not fit: remove it for another one to be made", cache_path);
	is_there = false;
	if (!cache.path)
		return;
	/* That there is none is no error of the run. */
	log_only_warns(true);
	if (!is_cpu || unpu_model_pack_fd(model, cache.fd))
		output_discard(&cache);
	else
		output_commit(&cache);
	log_only_warns(false);
}
