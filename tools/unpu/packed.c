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

/* Another file has another name: by what tells files apart, and, but for copies, their contents. */
static int name_cache(const struct stat *st)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	const char *folder = base && base[0] == '/' ? base : home;
	int n;

	if (!folder || folder[0] != '/')
		return -ENOENT;
	n = snprintf(cache_path, sizeof(cache_path), "%s%s/unpu/packed.%llx-%llx-%llx-%lx",
		     folder, folder == base ? "" : "/.cache",
		     (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
		     (unsigned long long)st->st_mtim.tv_sec, (long)st->st_mtim.tv_nsec);
	return n > 0 && n < (int)sizeof(cache_path) ? 0 : -ENAMETOOLONG;
}

/* A cache that cannot be is no reason not to run. */
static void open_cache(const struct stat *st, int *fd)
{
	int err = name_cache(st);

	if (!err)
		*fd = open(cache_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (err || *fd >= 0 || cache.path)
		return;
	err = make_folder();
	if (err)
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

void packed_keep(const struct unpu_model *model)
{
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;

	if (!cache.path)
		return;
	unpu_model_info(model, &info);
	if (strcmp(info.device, "cpu") || unpu_model_pack_fd(model, cache.fd))
		output_discard(&cache);
	else
		output_commit(&cache);
}
