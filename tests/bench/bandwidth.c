/* SPDX-License-Identifier: MIT */
/*
 * What bandwidth.sh measures decoding against.
 *   bandwidth MODEL POSITION   bytes that decoding reads for a token at POSITION: weights as they
 *                              lie in the file, and KV in f16
 *   bandwidth BYTES THREADS    how fast that much memory is read, as lines of page size, streams a
 *                              thread, median and best of the passes in GB/s
 * Threads read a part each, in order, with loads as wide as the processor's; a thread's streams are
 * parts of its part that it reads side by side, which wakes more of the prefetchers.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/model/arch.h"
#include "runtime/unpu.h"

#define HUGE_PAGE	(2u << 20)
#define MAX_THREADS	64u
#define MAX_PASSES	4096u
#define PASSES		7u	/* at least */
#define SECONDS		0.4	/* at least */

/* One register of AVX-512, two of AVX2, four of NEON and SSE. */
typedef uint64_t wide __attribute__((vector_size(64)));

#ifdef __x86_64__
#define WIDEST __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define WIDEST
#endif

struct reading {
	const uint8_t *data;
	size_t bytes;
	uint32_t threads, streams, passes;
	int stop;
	pthread_barrier_t barrier;
	double seconds[MAX_PASSES];
};

struct reader {
	struct reading *all;
	uint32_t index;
	wide sum;	/* so that no load is left out */
};

/* Four lines of each stream in turn; bytes is what one stream has. */
WIDEST static void read_streams(const uint8_t *data, size_t bytes, uint32_t streams, wide *sum)
{
	wide s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };

	for (size_t i = 0; i < bytes; i += 4 * sizeof(wide)) {
		for (uint32_t stream = 0; stream < streams; stream++) {
			const wide *at = (const wide *)(data + stream * bytes + i);

			s0 ^= at[0];
			s1 ^= at[1];
			s2 ^= at[2];
			s3 ^= at[3];
		}
	}
	*sum ^= s0 ^ s1 ^ s2 ^ s3;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *reader_main(void *arg)
{
	struct reader *reader = arg;
	struct reading *all = reader->all;
	size_t part = all->bytes / all->threads;
	double begin = now(), last = begin;

	while (!all->stop) {
		read_streams(all->data + reader->index * part, part / all->streams, all->streams,
			     &reader->sum);
		pthread_barrier_wait(&all->barrier);
		if (!reader->index) {
			double time = now();

			all->seconds[all->passes++] = time - last;
			last = time;
			all->stop = all->passes == MAX_PASSES ||
				    (all->passes >= PASSES && time - begin > SECONDS);
		}
		pthread_barrier_wait(&all->barrier);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int read_all(struct reading *all)
{
	struct reader readers[MAX_THREADS] = { 0 };
	pthread_t ids[MAX_THREADS];

	all->stop = 0;
	all->passes = 0;
	if (pthread_barrier_init(&all->barrier, NULL, all->threads))
		return 1;
	for (uint32_t i = 0; i < all->threads; i++) {
		readers[i] = (struct reader){ .all = all, .index = i };
		if (i && pthread_create(&ids[i], NULL, reader_main, &readers[i]))
			exit(1);
	}
	reader_main(&readers[0]);
	for (uint32_t i = 1; i < all->threads; i++)
		pthread_join(ids[i], NULL);
	pthread_barrier_destroy(&all->barrier);
	qsort(all->seconds, all->passes, sizeof(all->seconds[0]), compare);
	return 0;
}

static int measure(size_t bytes, uint32_t threads, int advice, const char *pages)
{
	static struct reading all;
	uint8_t *map = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *data = map + (-(uintptr_t)map & (HUGE_PAGE - 1));

	if (map == MAP_FAILED)
		return 1;
	madvise(data, bytes, advice);
	memset(data, 1, bytes);
	for (uint32_t streams = 1; streams <= 4; streams *= 2) {
		/* Whole turns of all streams. */
		size_t unit = (size_t)threads * streams * 4 * sizeof(wide);

		all = (struct reading){ .data = data, .bytes = bytes / unit * unit,
					.threads = threads, .streams = streams };
		if (read_all(&all))
			return 1;
		printf("%s %u %.3f %.3f\n", pages, streams,
		       all.bytes / all.seconds[all.passes / 2] * 1e-9,
		       all.bytes / all.seconds[0] * 1e-9);
	}
	return munmap(map, bytes + HUGE_PAGE);
}

static void tell(void *arg, enum unpu_log_level level, const char *message)
{
	(void)arg;
	if (level == UNPU_LOG_ERROR)
		fprintf(stderr, "bandwidth: %s\n", message);
}

/* The rows of an embedding that is not the head as well are not read but one. */
static int tell_bytes(const struct unpu_gguf *gguf, uint32_t position)
{
	const struct unpu_log log = { .fn = tell };
	struct unpu_arch *arch;
	uint64_t weights = 0, kv;

	if (unpu_arch_create(gguf, &log, &arch))
		return 1;
	for (uint32_t i = 0; i < unpu_gguf_num_tensors(gguf); i++)
		weights += unpu_gguf_tensor_at(gguf, i)->bytes;
	if (arch->head != arch->embed)
		weights -= arch->embed->bytes;
	kv = (uint64_t)arch->hp.layers * 2 * arch->hp.kv_heads * arch->hp.head_dim * 2 * position;
	printf("%llu %llu\n", (unsigned long long)weights, (unsigned long long)kv);
	unpu_arch_destroy(arch);
	return 0;
}

static int tell_model(const char *name, uint32_t position)
{
	const struct unpu_log log = { .fn = tell };
	struct unpu_gguf *gguf;
	struct stat stat;
	int fd = open(name, O_RDONLY | O_CLOEXEC), status;
	void *data;

	if (fd < 0 || fstat(fd, &stat)) {
		perror(name);
		return 1;
	}
	data = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (data == MAP_FAILED || unpu_gguf_create(data, stat.st_size, &log, &gguf))
		return 1;
	status = tell_bytes(gguf, position);
	unpu_gguf_destroy(gguf);
	munmap(data, stat.st_size);
	return status;
}

int main(int argc, char **argv)
{
	uint64_t bytes;
	uint32_t number;
	char *end;

	if (argc != 3) {
		fputs("usage: bandwidth MODEL POSITION | bandwidth BYTES THREADS\n", stderr);
		return 2;
	}
	bytes = strtoull(argv[1], &end, 10);
	number = strtoul(argv[2], NULL, 10);
	if (*end || !bytes)
		return tell_model(argv[1], number);
	if (!number || number > MAX_THREADS || bytes < HUGE_PAGE)
		return 2;
	return measure(bytes, number, MADV_NOHUGEPAGE, "small") ||
	       measure(bytes, number, MADV_HUGEPAGE, "huge");
}
