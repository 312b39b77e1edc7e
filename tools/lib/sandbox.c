/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/lib/sandbox.h"
#include "uapi/unpu_accel.h"

#if defined(__has_feature)
#define FEATURE(x)	__has_feature(x)
#else
#define FEATURE(x)	0
#endif
/* The sanitizers trace the process at its end, and read symbols at any time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || FEATURE(address_sanitizer) || \
	FEATURE(thread_sanitizer) || FEATURE(memory_sanitizer)
#define SANITIZED	1
#else
#define SANITIZED	0
#endif

static struct {
	bool off, entered, folder, gpu, gpu_alone, accel, closed, punching, serving;
	int landlock;		/* version, 0: none */
	bool seccomp;
	char text[96];
} state;

/* ---- Landlock ---------------------------------------------------------------------------- */

/* Numbers and structs of linux/landlock.h: those of the builder's kernel know too little. */
#define LL_CREATE	444
#define LL_ADD_RULE	445
#define LL_RESTRICT	446
#define LL_VERSION	1u
#define LL_PATH_BENEATH	1

#define LL_READ_DIR	(1u << 3)
#define LL_READ_FILE	(1u << 2)
#define LL_WRITE_FILE	(1u << 1)
#define LL_REMOVE_FILE	(1u << 5)
#define LL_MAKE_DIR	(1u << 7)
#define LL_MAKE_REG	(1u << 8)
#define LL_REFER	(1u << 13)
#define LL_TRUNCATE	(1u << 14)
#define LL_IOCTL_DEV	(1u << 15)

struct ll_ruleset {
	uint64_t fs, net, scoped;
};

struct ll_path {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

/* All that a version knows: bind and connect of TCP from 4 on, sockets without a name and signals
 * to others from 6 on. */
static void ll_handled(int version, struct ll_ruleset *rules)
{
	rules->fs = (1u << 13) - 1;
	rules->fs |= version >= 2 ? LL_REFER : 0;
	rules->fs |= version >= 3 ? LL_TRUNCATE : 0;
	rules->fs |= version >= 5 ? LL_IOCTL_DEV : 0;
	rules->net = version >= 4 ? 3 : 0;
	rules->scoped = version >= 6 ? 3 : 0;
}

static void ll_allow(int ruleset, const struct ll_ruleset *rules, int fd, uint64_t access)
{
	struct ll_path path = { access & rules->fs, fd };

	if (fd >= 0)
		syscall(LL_ADD_RULE, ruleset, LL_PATH_BENEATH, &path, 0);
}

static void ll_allow_path(int ruleset, const struct ll_ruleset *rules, const char *name,
			  uint64_t access)
{
	int fd = open(name, O_PATH | O_CLOEXEC);

	ll_allow(ruleset, rules, fd, access);
	if (fd >= 0)
		close(fd);
}

/*
 * Which processors there are, how fast, how many of them this group may use, and how much memory:
 * asked for by the library, and by sysconf(). A folder takes READ_DIR, a file only READ_FILE.
 */
static void ll_allow_needed(int ruleset, const struct ll_ruleset *rules)
{
	static const char *const folders[] = {
		"/proc/self", "/sys/devices/system/cpu", "/sys/fs/cgroup",
	};
	static const char *const files[] = { "/proc/meminfo", "/proc/stat", "/proc/cpuinfo" };
	size_t i;

	for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		ll_allow_path(ruleset, rules, folders[i], LL_READ_FILE | LL_READ_DIR);
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		ll_allow_path(ruleset, rules, files[i], LL_READ_FILE);
	for (i = 0; output_folder(i) >= 0; i++)
		ll_allow(ruleset, rules, output_folder(i), LL_MAKE_REG | LL_REMOVE_FILE);
	if (state.folder)
		ll_allow_path(ruleset, rules, ".", LL_READ_FILE | LL_READ_DIR | LL_WRITE_FILE |
			      LL_TRUNCATE | LL_MAKE_REG | LL_REMOVE_FILE);
}

/* ---- what a GPU's driver needs besides ---- */

/* Libraries, the loader's lists of drivers, and what is known of the hardware. /etc has no secrets
 * that the user may read; of /proc only what says nothing of other processes. */
static const char *const gpu_read[] = {
	"/usr", "/lib", "/lib64", "/opt", "/etc", "/sys", "/nix/store", "/proc/driver",
	"/proc/sys/kernel/random",
};
static const char *const gpu_read_files[] = {
	"/proc/modules", "/proc/devices", "/proc/version", "/proc/sys/vm/overcommit_memory",
};
#define SHARED_MEMORY	"/dev/shm"

/* Mesa's for every GPU; NVIDIA's; Qualcomm's and ARM's own. */
static const char *const gpu_nodes[] = {
	"/dev/dri", "/dev/dma_heap", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl",
	"/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps",
	"/dev/kgsl-3d0", "/dev/mali0", "/dev/ion", "/dev/dxg", "/dev/udmabuf", SHARED_MEMORY,
	"/dev/null", "/dev/zero", "/dev/urandom",
};
/* Beneath the user's caches: no other program's is among them. */
static const char *const gpu_caches[] = {
	"unpu", "mesa_shader_cache", "mesa_shader_cache_db", "mesa_shader_cache_sf",
	"radv_builtin_shaders", "nvidia", "pocl",
};

static bool is_folder(const char *name)
{
	struct stat st;

	return !stat(name, &st) && S_ISDIR(st.st_mode);
}

static void ll_allow_node(int ruleset, const struct ll_ruleset *rules, const char *name)
{
	uint64_t access = LL_READ_FILE | LL_WRITE_FILE | LL_IOCTL_DEV;

	if (is_folder(name))
		access |= LL_READ_DIR | LL_MAKE_REG | LL_REMOVE_FILE;
	ll_allow_path(ruleset, rules, name, access);
}

/* The folders of the files in a list such as VK_ICD_FILENAMES. */
static void ll_allow_list(int ruleset, const struct ll_ruleset *rules, const char *list)
{
	char name[PATH_MAX], *slash;
	size_t length;

	for (; list && *list; list += length + (list[length] == ':')) {
		length = strcspn(list, ":");
		if (!length || length >= sizeof(name))
			continue;
		memcpy(name, list, length);
		name[length] = '\0';
		slash = strrchr(name, '/');
		if (!is_folder(name) && slash && slash > name)
			*slash = '\0';
		if (is_folder(name))
			ll_allow_path(ruleset, rules, name, LL_READ_FILE | LL_READ_DIR);
	}
}

/* The user's first cache of all. */
static void make_with_parent(const char *path)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s", path);
	*strrchr(parent, '/') = '\0';
	if (!mkdir(parent, 0700))
		mkdir(path, 0700);
}

/* A cache that is not there cannot be allowed: those that everybody uses are made first. */
static void ll_allow_caches(int ruleset, const struct ll_ruleset *rules)
{
	const uint64_t access = LL_READ_FILE | LL_READ_DIR | LL_WRITE_FILE | LL_TRUNCATE |
				LL_MAKE_REG | LL_MAKE_DIR | LL_REMOVE_FILE | LL_REFER;
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char path[PATH_MAX];
	size_t i;

	for (i = 0; i < sizeof(gpu_caches) / sizeof(gpu_caches[0]); i++) {
		if (base && base[0] == '/')
			snprintf(path, sizeof(path), "%s/%s", base, gpu_caches[i]);
		else if (home && home[0] == '/')
			snprintf(path, sizeof(path), "%s/.cache/%s", home, gpu_caches[i]);
		else
			return;
		if (i < 2 && mkdir(path, 0700) && errno == ENOENT)
			make_with_parent(path);
		ll_allow_path(ruleset, rules, path, access);
	}
	if (home && snprintf(path, sizeof(path), "%s/.nv", home) < (int)sizeof(path))
		ll_allow_path(ruleset, rules, path, access);
	ll_allow_list(ruleset, rules, getenv("MESA_SHADER_CACHE_DIR"));
}

static void ll_allow_gpu(int ruleset, const struct ll_ruleset *rules)
{
	static const char *const lists[] = {
		"VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "VK_LAYER_PATH",
		"VK_ADD_LAYER_PATH", "LD_LIBRARY_PATH",
	};
	size_t i;

	for (i = 0; i < sizeof(gpu_read) / sizeof(gpu_read[0]); i++)
		ll_allow_path(ruleset, rules, gpu_read[i], LL_READ_FILE | LL_READ_DIR);
	for (i = 0; i < sizeof(gpu_read_files) / sizeof(gpu_read_files[0]); i++)
		ll_allow_path(ruleset, rules, gpu_read_files[i], LL_READ_FILE);
	for (i = 0; i < sizeof(gpu_nodes) / sizeof(gpu_nodes[0]); i++)
		if (!state.gpu_alone || strcmp(gpu_nodes[i], SHARED_MEMORY))
			ll_allow_node(ruleset, rules, gpu_nodes[i]);
	for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		ll_allow_list(ruleset, rules, getenv(lists[i]));
	if (!state.gpu_alone)
		ll_allow_caches(ruleset, rules);
}

/* ---- nodes of the kernel driver unpu ---- */

static bool is_unpu(const char *render_node)
{
	char link[96], target[256], *name;
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/class/drm/%s/device/driver", render_node);
	n = readlink(link, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	name = strrchr(target, '/');
	return name && !strncmp(name + 1, "unpu", 4);
}

/* Other drivers' render nodes are GPUs', which are not meant. */
static void ll_allow_accel(int ruleset, const struct ll_ruleset *rules)
{
	const uint64_t access = LL_READ_FILE | LL_WRITE_FILE | LL_IOCTL_DEV;
	char path[64];
	int i;

	ll_allow_path(ruleset, rules, "/dev/accel", access);
	for (i = 128; i < 192; i++) {
		snprintf(path, sizeof(path), "/dev/dri/renderD%d", i);
		if (is_unpu(path + strlen("/dev/dri/")))
			ll_allow_path(ruleset, rules, path, access);
	}
}

/* 0 where the kernel has none, or has it switched off. */
static int ll_version(void)
{
	long version = syscall(LL_CREATE, NULL, 0, LL_VERSION);

	return version > 0 ? (int)version : 0;
}

static int ll_enter(void)
{
	struct ll_ruleset rules;
	int version = ll_version(), ruleset;
	bool held;

	if (!version)
		return 0;
	ll_handled(version, &rules);
	ruleset = (int)syscall(LL_CREATE, &rules, sizeof(rules), 0);
	if (ruleset < 0)
		return 0;
	ll_allow_needed(ruleset, &rules);
	if (state.gpu)
		ll_allow_gpu(ruleset, &rules);
	if (state.accel)
		ll_allow_accel(ruleset, &rules);
	held = !syscall(LL_RESTRICT, ruleset, 0);
	close(ruleset);
	return held ? version : 0;
}

/* ---- seccomp ----------------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCH	AUDIT_ARCH_X86_64
#define X32_BIT	0x40000000u
#elif defined(__aarch64__)
#define ARCH	AUDIT_ARCH_AARCH64
#elif defined(__arm__) && defined(__ARM_EABI__)
#define ARCH	AUDIT_ARCH_ARM
#endif

#ifdef ARCH

/* A name that an architecture lacks, or that its headers do not know yet, is not in its list. */
static const int plain[] = {
	/* what runs often comes first: the filter looks from the front */
	SYS_futex,
#ifdef SYS_futex_time64
	SYS_futex_time64,
#endif
	SYS_write, SYS_read, SYS_sched_yield, SYS_clock_gettime,
#ifdef SYS_clock_gettime64
	SYS_clock_gettime64,
#endif
	/* memory; PCRE2's compiled patterns are mapped with PROT_EXEC */
	SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk, SYS_membarrier,
#ifdef SYS_mmap
	SYS_mmap,
#endif
#ifdef SYS_mmap2
	SYS_mmap2,
#endif
	/* threads */
	SYS_set_robust_list, SYS_get_robust_list, SYS_exit, SYS_exit_group, SYS_gettid,
	SYS_getpid, SYS_set_tid_address, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_getcpu,
#ifdef SYS_rseq
	SYS_rseq,
#endif
#ifdef SYS_arch_prctl
	SYS_arch_prctl,
#endif
	/* time */
	SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
	SYS_restart_syscall,
#ifdef SYS_clock_nanosleep_time64
	SYS_clock_nanosleep_time64,
#endif
#ifdef SYS_clock_getres_time64
	SYS_clock_getres_time64,
#endif
#ifdef SYS_time
	SYS_time,
#endif
	/* signals, and the end of a process that was started before */
	SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack,
	SYS_wait4,
#ifdef SYS_sigreturn
	SYS_sigreturn,
#endif
	/* what is open */
	SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_close, SYS_lseek, SYS_fstat,
	SYS_dup, SYS_dup3, SYS_ppoll, SYS_pselect6, SYS_eventfd2, SYS_ftruncate,
#ifdef SYS__llseek
	SYS__llseek,
#endif
#ifdef SYS_fstat64
	SYS_fstat64,
#endif
#ifdef SYS_ftruncate64
	SYS_ftruncate64,
#endif
#ifdef SYS_poll
	SYS_poll,
#endif
#ifdef SYS_select
	SYS_select,
#endif
#ifdef SYS__newselect
	SYS__newselect,
#endif
#ifdef SYS_ppoll_time64
	SYS_ppoll_time64,
#endif
#ifdef SYS_pselect6_time64
	SYS_pselect6_time64,
#endif
	/* names: what they lead to, not what is in it */
	SYS_readlinkat, SYS_getcwd, SYS_faccessat,
#ifdef SYS_newfstatat
	SYS_newfstatat,
#endif
#ifdef SYS_fstatat64
	SYS_fstatat64,
#endif
#ifdef SYS_statx
	SYS_statx,
#endif
#ifdef SYS_stat
	SYS_stat, SYS_lstat,
#endif
#ifdef SYS_stat64
	SYS_stat64, SYS_lstat64,
#endif
#ifdef SYS_readlink
	SYS_readlink,
#endif
#ifdef SYS_access
	SYS_access,
#endif
#ifdef SYS_faccessat2
	SYS_faccessat2,
#endif
	/* who and where this is */
	SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_getrandom, SYS_getuid, SYS_geteuid, SYS_getgid,
	SYS_getegid, SYS_getpgid,
#ifdef SYS_getuid32
	SYS_getuid32, SYS_geteuid32, SYS_getgid32, SYS_getegid32,
#endif
#ifdef __ARM_NR_cacheflush
	__ARM_NR_cacheflush,
#endif
};

/* For those who write files: Landlock says where. */
static const int writing[] = {
	SYS_fsync, SYS_fdatasync, SYS_fchmod, SYS_unlinkat,
#ifdef SYS_renameat
	SYS_renameat,
#endif
#ifdef SYS_renameat2
	SYS_renameat2,
#endif
#ifdef SYS_rename
	SYS_rename,
#endif
#ifdef SYS_unlink
	SYS_unlink,
#endif
};

/* For drivers of GPUs: memory that two parts of one share, locks and folders of caches, threads
 * with a priority. Landlock says where, and knows nothing of modes and times: no call here changes
 * those, starts a program or reaches another process. */
static const int driving[] = {
	SYS_memfd_create, SYS_flock, SYS_fallocate, SYS_getdents64, SYS_mkdirat, SYS_pipe2,
	SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_fstatfs, SYS_statfs, SYS_mlock,
	SYS_munlock, SYS_mincore, SYS_msync, SYS_get_mempolicy, SYS_set_mempolicy, SYS_mbind,
	SYS_kcmp, SYS_sched_getscheduler, SYS_sched_setscheduler, SYS_sched_getparam,
	SYS_sched_setparam, SYS_sched_get_priority_max, SYS_sched_get_priority_min,
	SYS_setpriority, SYS_getpriority, SYS_umask, SYS_getppid, SYS_times,
#ifdef SYS_fadvise64
	SYS_fadvise64,
#endif
#ifdef SYS_fstatfs64
	SYS_fstatfs64, SYS_statfs64,
#endif
#ifdef SYS_mkdir
	SYS_mkdir,
#endif
#ifdef SYS_pipe
	SYS_pipe,
#endif
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
#ifdef SYS_getrlimit
	SYS_getrlimit,
#endif
#ifdef SYS_ugetrlimit
	SYS_ugetrlimit,
#endif
#ifdef SYS_getdents
	SYS_getdents,
#endif
};

/* For servers. What is connected has come through the socket: no name is connected to. */
static const int serving[] = {
	SYS_accept4, SYS_sendmsg, SYS_recvmsg, SYS_memfd_create, SYS_pipe2, SYS_getsockopt,
	SYS_shutdown, SYS_signalfd4,
};

/* What types into a terminal, and what reads its screen. */
static const uint32_t no_ioctls[] = { 0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */ };

/* On terminals only. TIOCSTI, which types into one, is not among them. */
static const uint32_t ioctls[] = {
	TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, TIOCGPGRP, FIONREAD,
};

/* With those of the kernel driver unpu: its own, and what the DRM core has for it. */
static const uint32_t accel_ioctls[] = {
	TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, TIOCGPGRP, FIONREAD,
	DRM_IOCTL_UNPU_SUBMIT, DRM_IOCTL_SYNCOBJ_WAIT, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
	DRM_IOCTL_UNPU_CTX_QUERY, DRM_IOCTL_UNPU_DEV_QUERY, DRM_IOCTL_UNPU_BO_CREATE,
	DRM_IOCTL_UNPU_BO_MMAP_OFFSET, DRM_IOCTL_UNPU_CTX_CREATE, DRM_IOCTL_UNPU_CTX_DESTROY,
	DRM_IOCTL_UNPU_SHADER_CREATE, DRM_IOCTL_UNPU_SHADER_DESTROY,
	DRM_IOCTL_UNPU_PROGRAM_CREATE, DRM_IOCTL_UNPU_PROGRAM_DESTROY, DRM_IOCTL_VERSION,
	DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_SYNCOBJ_CREATE, DRM_IOCTL_SYNCOBJ_DESTROY,
};

static const uint32_t fcntls[] = {
	F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC,
};

/* Seals of shared memory and locks of caches; not F_SETOWN, which sends signals. */
static const uint32_t more_fcntls[] = {
	F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_DUPFD, F_GETLK, F_SETLK, F_SETLKW,
	F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_ADD_SEALS, F_GET_SEALS,
};

#define PRCTL_SET_VMA	0x53564d41u	/* names of mappings, by newer C libraries */

static const uint32_t prctls[] = { PR_SET_NAME, PR_GET_NAME, PRCTL_SET_VMA };

#define COUNT(__array)	(sizeof(__array) / sizeof((__array)[0]))

struct filter {
	struct sock_filter code[512];
	uint16_t length;
};

static void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	f->code[f->length++] = (struct sock_filter)BPF_JUMP(code, k, jt, jf);
}

static void load(struct filter *f, size_t offset)
{
	emit(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The lower half of an argument: all architectures above are little-endian. */
static void load_arg(struct filter *f, uint32_t arg)
{
	load(f, offsetof(struct seccomp_data, args) + 8 * arg);
}

static void answer(struct filter *f, uint32_t err)
{
	emit(f, BPF_RET | BPF_K, err ? SECCOMP_RET_ERRNO | err : SECCOMP_RET_ALLOW, 0, 0);
}

/* What is loaded is value: answer. */
static void answer_if(struct filter *f, uint32_t value, uint32_t err)
{
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	answer(f, err);
}

static void allow_all(struct filter *f, const int *calls, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		answer_if(f, (uint32_t)calls[i], 0);
}

/* The call with one of these for an argument. */
static void allow_with(struct filter *f, int call, uint32_t arg, const uint32_t *values,
		       size_t count)
{
	size_t i;

	emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(2 * count + 2));
	load_arg(f, arg);
	for (i = 0; i < count; i++)
		answer_if(f, values[i], 0);
	answer(f, EPERM);
}

/* The call with any argument but these. */
static void allow_without(struct filter *f, int call, uint32_t arg, const uint32_t *values,
			  size_t count)
{
	size_t i;

	emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(2 * count + 2));
	load_arg(f, arg);
	for (i = 0; i < count; i++)
		answer_if(f, values[i], EPERM);
	answer(f, 0);
}

/* The call when these bits of an argument are want. */
static void allow_bits(struct filter *f, int call, uint32_t arg, uint32_t bits, uint32_t want)
{
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 5);
	load_arg(f, arg);
	emit(f, BPF_ALU | BPF_AND | BPF_K, bits, 0, 0);
	answer_if(f, want, 0);
	answer(f, EPERM);
}

/* Limits of this process can be asked for, not set. */
static void allow_prlimit(struct filter *f)
{
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 8);
	load_arg(f, 0);
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5);
	load_arg(f, 2);
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
	load(f, offsetof(struct seccomp_data, args) + 8 * 2 + 4);
	answer_if(f, 0, 0);
	answer(f, EPERM);
}

static void check_arch(struct filter *f)
{
	load(f, offsetof(struct seccomp_data, arch));
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	answer(f, EPERM);
	load(f, offsetof(struct seccomp_data, nr));
#ifdef X32_BIT
	emit(f, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	answer(f, EPERM);
#endif
}

static void allow_opening(struct filter *f)
{
	/* O_TMPFILE's own bit; its other one is O_DIRECTORY. */
	uint32_t bits = O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);

	if (!state.accel)
		bits |= O_ACCMODE;
	if (state.folder || state.gpu)
		bits = 0;
	allow_bits(f, SYS_openat, 2, bits, 0);
#ifdef SYS_open
	allow_bits(f, SYS_open, 1, bits, 0);
#endif
}

/* Signals to itself: raise(), abort(), and the stop that a terminal's Ctrl-Z asks for. */
static void allow_own_signals(struct filter *f)
{
	const uint32_t self = (uint32_t)getpid();

	allow_with(f, SYS_tgkill, 0, &self, 1);
	allow_with(f, SYS_kill, 0, &self, 1);
	allow_with(f, SYS_tkill, 0, &self, 1);
}

static void allow_fcntl(struct filter *f, int call)
{
	if (state.gpu || state.serving)
		allow_with(f, call, 1, more_fcntls, COUNT(more_fcntls));
	else
		allow_with(f, call, 1, fcntls, COUNT(fcntls));
}

static void make_filter(struct filter *f)
{
	f->length = 0;
	check_arch(f);
	allow_all(f, plain, COUNT(plain));
	if (state.folder || state.gpu || output_folder(0) >= 0)
		allow_all(f, writing, COUNT(writing));
	if (state.gpu)
		allow_all(f, driving, COUNT(driving));
	if (state.punching)
		answer_if(f, SYS_fallocate, 0);
	if (state.serving)
		allow_all(f, serving, COUNT(serving));
	if (!state.closed)
		allow_opening(f);
	/* clone3()'s flags lie in memory; who does not have it calls clone(). */
#ifdef SYS_clone3
	answer_if(f, SYS_clone3, ENOSYS);
#endif
	allow_bits(f, SYS_clone, 0, CLONE_THREAD, CLONE_THREAD);
	if (state.gpu)
		allow_without(f, SYS_ioctl, 1, no_ioctls, COUNT(no_ioctls));
	else if (state.accel)
		allow_with(f, SYS_ioctl, 1, accel_ioctls, COUNT(accel_ioctls));
	else
		allow_with(f, SYS_ioctl, 1, ioctls, COUNT(ioctls));
	allow_fcntl(f, SYS_fcntl);
#ifdef SYS_fcntl64
	allow_fcntl(f, SYS_fcntl64);
#endif
	allow_with(f, SYS_prctl, 0, prctls, COUNT(prctls));
	allow_prlimit(f);
	allow_own_signals(f);
	answer(f, EPERM);
}

/* To all threads; where the call itself is filtered, or emulated, there is none. */
/*
 * Kernels before 5.16 take a filter as a wish for slower loads after stores and slower branches,
 * against code within the process that reads what it should not: here all of it is the same
 * owner's. Those before 4.17 know neither the wish nor its flag.
 */
static bool seccomp_enter(void)
{
	static struct filter filter;
	struct sock_fprog program = { .filter = filter.code };
	const unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC;

	make_filter(&filter);
	program.len = filter.length;
	return !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) ||
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static bool seccomp_there(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return !syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
}

#else

static bool seccomp_enter(void)
{
	return false;
}

static bool seccomp_there(void)
{
	return false;
}

#endif

/* ---- both -------------------------------------------------------------------------------- */

void sandbox_off(void)
{
	state.off = true;
}

void sandbox_allow_folder(void)
{
	state.folder = true;
}

void sandbox_allow_gpu(void)
{
	state.gpu = true;
}

/* Mesa's words for it, the newer first, and NVIDIA's; our own engine, and others, know no place
 * without these two. All of it also where there is no Landlock. */
void sandbox_allow_gpu_alone(void)
{
	state.gpu = true;
	state.gpu_alone = true;
	setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);
	setenv("MESA_GLSL_CACHE_DISABLE", "true", 1);
	setenv("__GL_SHADER_DISK_CACHE", "0", 1);
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
}

void sandbox_allow_accel(void)
{
	state.accel = true;
}

void sandbox_open_nothing(void)
{
	state.closed = true;
}

void sandbox_allow_punching(void)
{
	state.punching = true;
}

void sandbox_allow_serving(void)
{
	state.serving = true;
}

/* Without the promise that no program which is started gains rights, the kernel takes neither. */
void sandbox_enter(void)
{
	if (SANITIZED || state.off || state.entered)
		return;
	state.entered = true;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return;
	state.landlock = ll_enter();
	state.seccomp = seccomp_enter();
}

const char *sandbox_status(void)
{
	int landlock;
	bool seccomp;

	if (SANITIZED)
		return "none: built with sanitizers";
	if (state.off)
		return "none: --no-sandbox";
	landlock = state.entered ? state.landlock : ll_version();
	seccomp = state.entered ? state.seccomp : seccomp_there();
	if (landlock)
		snprintf(state.text, sizeof(state.text), "landlock %d%s%s", landlock,
			 seccomp ? ", seccomp" : "; no seccomp on this machine",
			 state.gpu ? ", with a GPU" : state.accel ? ", with accel nodes" : "");
	else
		snprintf(state.text, sizeof(state.text), "%s", seccomp ?
			 "seccomp; the kernel has no landlock" :
			 "none: the kernel has neither landlock nor seccomp");
	return state.text;
}
