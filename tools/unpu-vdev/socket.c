/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/unpu-vdev/vdev.h"

static int address_of(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path)) {
		vdev_log("%s: a socket's path has at most %zu bytes", path,
			 sizeof(address->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

/* The folder, locked: of two that begin at once one finds the other. */
static int lock_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = ".";
	int fd;

	if (slash) {
		memcpy(folder, path, (size_t)(slash - path) + 1);
		folder[slash - path + 1] = '\0';
	}
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		vdev_log("cannot open the folder of %s: %s", path, strerror(errno));
		return -errno;
	}
	flock(fd, LOCK_EX);
	return fd;
}

/* Whether somebody takes connections there. */
static bool is_served(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = connect(fd, (const void *)address, sizeof(*address)) ? errno : 0;

	close(fd);
	/* EAGAIN: its queue is full; EACCES: it is somebody else's. */
	return err != ECONNREFUSED && err != ENOENT;
}

static int make_room(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode)) {
		vdev_log("%s is there, and no socket", path);
		return -EEXIST;
	}
	if (is_served(address)) {
		vdev_log("%s is served by another process", path);
		return -EADDRINUSE;
	}
	if (unlink(path)) {
		vdev_log("cannot remove %s: %s", path, strerror(errno));
		return -errno;
	}
	vdev_log("%s was left by a process that is gone: replaced", path);
	return 0;
}

/* Nobody else ever could connect: the mode is there before the name is. */
static int bind_private(int fd, const struct sockaddr_un *address,
			const struct vdev_config *config)
{
	mode_t mask = umask(0177);
	int err = bind(fd, (const void *)address, sizeof(*address)) ? -errno : 0;
	bool bound = !err;

	umask(mask);
	if (!err && config->has_group &&
	    (chown(config->socket, (uid_t)-1, config->group) || chmod(config->socket, 0660)))
		err = -errno;
	if (!err && listen(fd, 16))
		err = -errno;
	if (err && bound)
		unlink(config->socket);
	if (err)
		vdev_log("cannot listen on %s: %s", config->socket, strerror(-err));
	return err;
}

static int open_locked(struct vdev_socket *sock, const struct sockaddr_un *address,
		       const struct vdev_config *config)
{
	struct stat st;
	int err = make_room(address);

	if (err)
		return err;
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock->fd < 0)
		return -errno;
	err = bind_private(sock->fd, address, config);
	if (!err && stat(config->socket, &st))
		err = -errno;
	if (err) {
		close(sock->fd);
		sock->fd = -1;
		return err;
	}
	sock->path = config->socket;
	sock->dev = st.st_dev;
	sock->ino = st.st_ino;
	return 0;
}

int vdev_socket_open(struct vdev_socket *sock, const struct vdev_config *config)
{
	struct sockaddr_un address;
	int folder, err;

	*sock = (struct vdev_socket){ .fd = -1 };
	err = address_of(config->socket, &address);
	if (err)
		return err;
	folder = lock_folder(config->socket);
	if (folder < 0)
		return folder;
	err = open_locked(sock, &address, config);
	close(folder);
	return err;
}

int vdev_socket_accept(const struct vdev_socket *sock)
{
	int fd = accept4(sock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

void vdev_socket_close(struct vdev_socket *sock)
{
	struct stat st;

	if (sock->fd < 0)
		return;
	if (!stat(sock->path, &st) && st.st_dev == sock->dev && st.st_ino == sock->ino)
		unlink(sock->path);
	close(sock->fd);
	sock->fd = -1;
}
