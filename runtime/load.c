/* SPDX-License-Identifier: MIT */
/* Loading: a file becomes a mapping, a checked GGUF, a tokenizer, layer plans, packed weights. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/core.h"
#include "runtime/device/cpu/ops.h"
#include "runtime/params.h"

static char *copy_str(struct unpu_str s)
{
	char *copy = malloc(s.len + 1);

	if (!copy)
		return NULL;
	memcpy(copy, s.ptr, s.len);
	copy[s.len] = 0;
	return copy;
}

static int copy_names(struct unpu_model *m)
{
	struct unpu_str name = { "", 0 }, arch = { "", 0 };
	uint32_t count = unpu_gguf_num_tensors(m->gguf);

	unpu_gguf_str(m->gguf, "general.name", &name);
	unpu_gguf_str(m->gguf, "general.architecture", &arch);
	m->name = copy_str(name);
	m->arch_name = copy_str(arch);
	m->tensor_names = calloc(count + 1ull, sizeof(*m->tensor_names));
	if (!m->name || !m->arch_name || !m->tensor_names)
		goto no_memory;
	for (uint32_t i = 0; i < count; i++) {
		m->tensor_names[i] = copy_str(unpu_gguf_tensor_at(m->gguf, i)->name);
		if (!m->tensor_names[i])
			goto no_memory;
	}
	return 0;
no_memory:
	return unpu_fail(&m->log, -ENOMEM, "no memory for the names of %u tensors", count);
}

static int check_vocab(const struct unpu_model *m)
{
	uint32_t tokens = unpu_tokenizer_vocab(m->tok), rows = m->arch->hp.vocab;

	/* Files pad the embedding table; a token without an embedding could not be run. */
	if (tokens > rows)
		return unpu_fail(&m->log, -EINVAL,
				 "the tokenizer has %u tokens but token_embd.weight only %u rows",
				 tokens, rows);
	return 0;
}

/* What stands in the way of running the file is worth a warning where it is only looked at. */
static void say_of_file(void *arg, enum unpu_log_level level, const char *text)
{
	const struct unpu_model *m = arg;

	if (m->only_warn && level == UNPU_LOG_ERROR)
		level = UNPU_LOG_WARN;
	unpu_log(&m->log, level, "%s", text);
}

static void load_for_info(struct unpu_model *m, const struct unpu_log *log)
{
	m->only_warn = true;
	unpu_tokenizer_create(m->gguf, log, &m->tok);
	if (unpu_gguf_num_tensors(m->gguf))
		unpu_arch_create(m->gguf, log, &m->arch);
}

static int take_isa(struct unpu_model *m, const char *name)
{
	if (!name)
		return 0;
	m->pack_for = unpu_cpu_isa_find(name);
	return m->pack_for ? 0 : unpu_fail(&m->log, -EINVAL, "\"%s\" is no instruction set: c, "
					   "avx2, avx512vnni, neon or neon_dotprod", name);
}

static int load_all(struct unpu_model *m, const void *data, uint64_t size,
		    const struct unpu_model_params *params)
{
	const struct unpu_log log = { say_of_file, m };
	int ret = unpu_gguf_create(data, size, &log, &m->gguf);

	ret = ret ? ret : copy_names(m);
	if (!ret && params->flags & UNPU_MODEL_INFO_ONLY) {
		load_for_info(m, &log);
		return 0;
	}
	ret = ret ? ret : unpu_tokenizer_create(m->gguf, &m->log, &m->tok);
	if (ret || params->flags & UNPU_MODEL_VOCAB_ONLY)
		return ret;
	ret = unpu_arch_create(m->gguf, &m->log, &m->arch);
	ret = ret ? ret : check_vocab(m);
	ret = ret ? ret : take_isa(m, params->pack_for);
	m->threads = params->threads;
	m->clamp = params->flags & UNPU_MODEL_CLAMP;
	m->class_f32 = params->flags & UNPU_MODEL_CLASS_F32;
	m->packed = params->flags & UNPU_MODEL_PACKED;
	m->packed_fd = params->packed_fd;
	ret = ret ? ret : unpu_home_find(m, params->device, params->progress,
					 params->progress_arg);
	m->packed = false;
	return ret;
}

/* What was mapped from a file; map NULL: memory of the caller. */
struct mapped {
	void *map;
	uint64_t bytes;
	struct unpu_packed_stamp stamp;
};

/* Takes the mapping over, on error too. */
static int load(const struct mapped *from, const void *data, uint64_t size,
		const struct unpu_model_params *params, struct unpu_model **model)
{
	const struct unpu_log log = { params->log, params->log_arg };
	struct unpu_model *m = calloc(1, sizeof(*m));
	int ret;

	if (!m) {
		if (from->map)
			munmap(from->map, from->bytes);
		return unpu_fail(&log, -ENOMEM, "no memory for a model");
	}
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->moving, NULL);
	m->log = log;
	m->map = from->map;
	m->map_bytes = from->bytes;
	m->stamp = from->stamp;
	ret = load_all(m, data, size, params);
	if (ret)
		unpu_model_destroy(m);
	else
		*model = m;
	return ret;
}

/* The caller's params as this library has them. A struct too short for a log says nothing. */
static int read_params(const struct unpu_model_params *from, struct unpu_model_params *params)
{
	const uint32_t known = UNPU_MODEL_VOCAB_ONLY | UNPU_MODEL_CLASS_F32 |
			       UNPU_MODEL_INFO_ONLY | UNPU_MODEL_PACKED | UNPU_MODEL_CLAMP;
	struct unpu_log log = { 0 };
	int ret;

	if (from->size >= unpu_model_params_struct.first_size)
		log = (struct unpu_log){ from->log, from->log_arg };
	*params = (struct unpu_model_params)UNPU_MODEL_PARAMS_INIT;
	ret = unpu_struct_read(&log, &unpu_model_params_struct, params, from);
	if (!ret && params->flags & ~known)
		ret = unpu_fail(&log, -EINVAL, "unknown model flags 0x%x", params->flags);
	return ret;
}

int unpu_model_load_memory(const void *data, uint64_t size,
			   const struct unpu_model_params *params, struct unpu_model **model)
{
	const struct mapped none = { 0 };
	struct unpu_model_params p;
	int ret = read_params(params, &p);

	return ret ? ret : load(&none, data, size, &p, model);
}

static uint64_t nanoseconds(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

static struct unpu_packed_stamp stamp_of(const struct stat *st, uint64_t offset, uint64_t size)
{
	return (struct unpu_packed_stamp){
		.offset = offset,
		.size = size,
		.mtime_ns = nanoseconds(&st->st_mtim),
		/* Which nobody can set: files that are written over may keep all else. */
		.ctime_ns = nanoseconds(&st->st_ctim),
		.device = st->st_dev,
		.inode = st->st_ino,
	};
}

static int load_mapped(int fd, uint64_t offset, uint64_t size, const char *what,
		       const struct unpu_model_params *params, struct unpu_model **model)
{
	const struct unpu_log log = { params->log, params->log_arg };
	uint64_t slack = offset % (uint64_t)sysconf(_SC_PAGESIZE);
	struct mapped from = { .bytes = size + slack };
	struct stat st;

	if (fstat(fd, &st))
		return unpu_fail(&log, -errno, "%s: %s", what, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return unpu_fail(&log, -EINVAL, "%s is not a regular file", what);
	if (offset > (uint64_t)st.st_size || size > (uint64_t)st.st_size - offset)
		return unpu_fail(&log, -EINVAL, "%s is shorter than the range asked for", what);
	if (size == 0)
		return unpu_fail(&log, -EINVAL, "%s is empty", what);
	if (size + slack > SIZE_MAX / 4)
		return unpu_fail(&log, -EFBIG, "%s is too large for this machine", what);
	from.map = mmap(NULL, from.bytes, PROT_READ, MAP_PRIVATE, fd, (off_t)(offset - slack));
	if (from.map == MAP_FAILED)
		return unpu_fail(&log, -errno, "%s: cannot map: %s", what, strerror(errno));
	/* The reader knows no file names; this is the mistake where one helps most. */
	if (size < 4 || memcmp((const char *)from.map + slack, "GGUF", 4)) {
		munmap(from.map, from.bytes);
		return unpu_fail(&log, -EINVAL, "%s is not a GGUF file", what);
	}
	from.stamp = stamp_of(&st, offset, size);
	return load(&from, (const char *)from.map + slack, size, params, model);
}

int unpu_model_load_fd(int fd, uint64_t offset, uint64_t size,
		       const struct unpu_model_params *params, struct unpu_model **model)
{
	struct unpu_model_params p;
	int ret = read_params(params, &p);

	return ret ? ret : load_mapped(fd, offset, size, "the file", &p, model);
}

int unpu_packed_check(int packed_fd, int fd, uint64_t offset, uint64_t size, char *why)
{
	struct unpu_packed_stamp stamp;
	struct stat st;

	if (fstat(fd, &st)) {
		snprintf(why, UNPU_PACKED_WHY, "is of a model that cannot be read");
		return -errno;
	}
	stamp = stamp_of(&st, offset, size);
	return unpu_packed_look(packed_fd, &stamp, unpu_cpu_isa_here(), why);
}

int unpu_model_load(const char *path, const struct unpu_model_params *params,
		    struct unpu_model **model)
{
	struct unpu_model_params p;
	struct unpu_log log;
	struct stat st;
	int fd, ret = read_params(params, &p);

	if (ret)
		return ret;
	log = (struct unpu_log){ p.log, p.log_arg };
	/* O_NONBLOCK: a FIFO without a writer must not hang the open; fstat refuses it. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return unpu_fail(&log, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st))
		ret = unpu_fail(&log, -errno, "%s: %s", path, strerror(errno));
	else
		ret = load_mapped(fd, 0, (uint64_t)st.st_size, path, &p, model);
	close(fd);
	return ret;
}

void unpu_model_destroy(struct unpu_model *m)
{
	if (!m)
		return;
	unpu_home_finish(m);
	unpu_arch_destroy(m->arch);
	unpu_tokenizer_destroy(m->tok);
	for (uint32_t i = 0; m->tensor_names && m->tensor_names[i]; i++)
		free(m->tensor_names[i]);
	free(m->tensor_names);
	free(m->name);
	free(m->arch_name);
	unpu_gguf_destroy(m->gguf);
	if (m->map)
		munmap(m->map, m->map_bytes);
	pthread_mutex_destroy(&m->moving);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
