/* SPDX-License-Identifier: MIT */
/*
 * What the process may still do once it reads what somebody else has made: compute, read and
 * write what is open, and no more. Landlock takes the files and the network away, seccomp the
 * calls; a kernel without one of them gives what it has. A call that is refused fails with EPERM or
 * EACCES and never ends the process.
 */
#ifndef UNPU_TOOL_SANDBOX_H
#define UNPU_TOOL_SANDBOX_H

#include <stddef.h>

/*
 * From here to the end, for all threads; the second time does nothing. Files of output_open() can
 * be brought to their places afterwards. To be called before there are other threads: Landlock
 * holds the caller and what it makes.
 */
void sandbox_enter(void);

/* Files beneath the current folder will be read, written and made all the same: for commands that
 * are typed while the model is loaded. */
void sandbox_allow_folder(void);

/*
 * A GPU's driver will run in the process: it reads its libraries and settings, opens the nodes of
 * GPUs and asks anything of them, and keeps shaders that it compiled beneath the user's caches. The
 * README has the list. To be called before sandbox_enter(), and not for the cpu, which needs none
 * of it.
 */
void sandbox_allow_gpu(void);

/*
 * The same for a process that runs what others send: what a driver keeps on disk, or leaves in
 * shared memory, would come from one of them to the next, and to this user's own programs. None of
 * it is there, and drivers are told to keep nothing.
 */
void sandbox_allow_gpu_alone(void);

/*
 * Nodes of the kernel driver unpu are opened, read and written, and asked what its interface has:
 * the memory and jobs behind them, nothing else of the machine. As above.
 */
void sandbox_allow_accel(void);

/* No file is opened any more, not even one to read. */
void sandbox_open_nothing(void);

/* Pages of shared memory that is open are given back. */
void sandbox_allow_punching(void);

/* A server of a UNIX socket that is open: it takes connections, and hands shared memory and event
 * counters to them that it makes. */
void sandbox_allow_serving(void);

/*
 * The program's: the i-th folder in which it makes, renames and removes files from its start to its
 * end, -1 past the last. Asked for by sandbox_enter().
 */
int output_folder(size_t i);

/* "landlock 7, seccomp", "seccomp; the kernel has no landlock", "none: ...": what is in force, or
 * before sandbox_enter() what would be. */
const char *sandbox_status(void);

/* For --no-sandbox: the status tells. */
void sandbox_off(void);

#endif
