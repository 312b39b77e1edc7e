/* SPDX-License-Identifier: MIT */
#include "tests/checkunpu/checkunpu.h"

#include <fnmatch.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/ondevice.h"

#define MAX_PRINTED	3	/* failures of one function */
#define PATTERN		0xa5	/* as a float: -2.9e-16, no result of a test */

static const struct {
	const char *name;
	check_family_fn *check;
} families[] = {
	{ "mm", check_mm },
	{ "quantize", check_quantize },
	{ "norm", check_norm },
	{ "act", check_act },
	{ "attn", check_attn },
	{ "merge", check_merge },
	{ "max", check_max },
	{ "shader", check_shader },
};

#define NUM_FAMILIES	(sizeof(families) / sizeof(families[0]))

/* The instruction sets of this architecture, lowest first. */
static const struct {
	const char *name;
	uint32_t flag;
} levels[] = {
	{ "c", UNPU_CPU_MASK_C },
#if defined(__x86_64__)
	{ "avx2", UNPU_CPU_MASK_AVX2 },
	{ "avx512vnni", UNPU_CPU_MASK_AVX512VNNI },
#elif defined(__aarch64__)
	{ "neon", UNPU_CPU_MASK_NEON },
	{ "neon_dotprod", UNPU_CPU_MASK_NEON_DOTPROD },
#endif
};

#define NUM_LEVELS	(sizeof(levels) / sizeof(levels[0]))

static struct {
	uint64_t seed;
	const char *function, *mask, *device, *tuning;
	int bench, verbose, quick;
	uint32_t passed, failed, skipped;
	/* the current function */
	char name[96];
	uint32_t failures;
	uint64_t random;
	volatile sig_atomic_t armed;
} state;

sigjmp_buf check_jump;

/* ---- one function ------------------------------------------------------------------------- */

static void on_signal(int number)
{
	/* A driver's own threads have no place to go back to. */
	if (!state.armed || gettid() != getpid()) {
		fprintf(stderr, "FAIL %s: signal %d\n", state.name, number);
		signal(number, SIG_DFL);
		raise(number);
		return;
	}
	state.armed = 0;
	check_fail("signal %d (%s)", number, strsignal(number));
	siglongjmp(check_jump, 1);
}

void check_arm(int armed)
{
	state.armed = armed;
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction action = { .sa_handler = on_signal };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

int check_begin(const struct check_level *level, int own, const char *format, ...)
{
	char name[64];
	va_list args;

	if (!own)
		return 0;
	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	snprintf(state.name, sizeof(state.name), "%s_%s", name,
		 level->device ? ondevice_name(level->device) : level->ops->name);
	if (state.function && fnmatch(state.function, state.name, 0))
		return 0;
	state.failures = 0;
	state.random = state.seed;
	for (const char *c = name; *c; c++)	/* FNV-1a: the same inputs at every level */
		state.random = (state.random ^ (uint8_t)*c) * 0x100000001b3;
	return 1;
}

void check_fail(const char *format, ...)
{
	va_list args;

	if (state.failures++ >= MAX_PRINTED)
		return;
	fprintf(stderr, "FAIL %s: ", state.name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

int check_going_on(void)
{
	return state.failures < MAX_PRINTED;
}

void check_end(void)
{
	if (state.failures)
		state.failed++;
	else
		state.passed++;
	if (state.verbose && !state.failures)
		printf("ok   %s\n", state.name);
}

int check_cases(const struct check_level *level, int cases)
{
	return level->device && state.quick ? (cases + 1) / 2 : cases;
}

/* ---- time --------------------------------------------------------------------------------- */

int check_benching(void)
{
	return state.bench;
}

static double now_ns(void)
{
	struct timespec t;

	/* of this process: what else runs on the machine takes its turn, not ours */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static double time_ns(void (*call)(void *), void *arg, uint32_t times)
{
	double start = now_ns();

	for (uint32_t i = 0; i < times; i++)
		call(arg);
	return (now_ns() - start) / times;
}

void check_bench(const char *what, void (*call)(void *), void *arg, double macs, double bytes)
{
	double best = time_ns(call, arg, 1);
	uint32_t times = best < 5e6 ? (uint32_t)(5e6 / (best + 1)) + 1 : 1;

	/* The best of several: caches and memory are still shared, which only ever adds. */
	for (int i = 0; i < 7; i++)
		best = fmin(best, time_ns(call, arg, times));
	printf("%-28s %-20s %12.0f ns", state.name, what, best);
	if (macs > 0)
		printf(" %8.1f GMAC/s", macs / best);
	if (bytes > 0)
		printf(" %8.1f GB/s", bytes / best);
	putchar('\n');
}

/* ---- random numbers ----------------------------------------------------------------------- */

uint32_t check_rand(void)
{
	/* splitmix64 */
	uint64_t z = state.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)(z >> 32);
}

uint32_t check_below(uint32_t n)
{
	return (uint32_t)((uint64_t)check_rand() * n >> 32);
}

float check_uniform(float low, float high)
{
	return low + (high - low) * ((float)(check_rand() >> 8) * 0x1p-24f);
}

float check_activation(void)
{
	float v = 0;

	for (int i = 0; i < 4; i++)
		v += check_uniform(-1, 1);
	return check_below(64) ? v : 50 * v;
}

float check_any_float(void)
{
	static const uint32_t special[] = {
		0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff,
		0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001, 0x3f800000, 0xbf800000,
	};

	if (check_below(4))
		return unpu_bits_float(check_rand());
	return unpu_bits_float(special[check_below(sizeof(special) / sizeof(special[0]))]);
}

/* ---- memory ------------------------------------------------------------------------------- */

void *check_buf_init(struct check_buf *buf, size_t bytes, enum check_side side)
{
	size_t page = sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;

	inner = inner ? inner : page;
	buf->bytes = bytes;
	buf->map_bytes = inner + 2 * page;
	buf->map = mmap(NULL, buf->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf->map == MAP_FAILED || mprotect(buf->map + page, inner, PROT_READ | PROT_WRITE)) {
		perror("checkunpu: mmap");
		exit(1);
	}
	buf->data = buf->map + page + (side == CHECK_BACK ? inner - bytes : 0);
	memset(buf->map + page, PATTERN, inner);
	return buf->data;
}

void check_buf_finish(struct check_buf *buf)
{
	munmap(buf->map, buf->map_bytes);
}

void check_buf_clear(struct check_buf *buf)
{
	memset(buf->data, PATTERN, buf->bytes);
}

void check_buf_seal(struct check_buf *buf)
{
	size_t page = sysconf(_SC_PAGESIZE);

	mprotect(buf->map + page, buf->map_bytes - 2 * page, PROT_READ);
}

void check_buf_intact(const struct check_buf *buf, const char *what)
{
	size_t page = sysconf(_SC_PAGESIZE);
	const uint8_t *end = buf->map + buf->map_bytes - page;

	for (const uint8_t *p = buf->map + page; p < end; p++) {
		if (p == buf->data)
			p += buf->bytes;
		if (p < end && *p != PATTERN) {
			check_fail("%s: byte %td was written", what, p - buf->data);
			return;
		}
	}
}

int check_untouched(const void *word)
{
	static const uint8_t pattern[4] = { PATTERN, PATTERN, PATTERN, PATTERN };

	return !memcmp(word, pattern, sizeof(pattern));
}

/* ---- comparisons -------------------------------------------------------------------------- */

int check_same(float a, float b)
{
	return (isnan(a) && isnan(b)) || unpu_float_bits(a) == unpu_float_bits(b);
}

int check_near(float got, double want, double bound)
{
	if (isnan(want) || isnan(got))
		return isnan(want) && isnan(got);
	if (isinf(want) || isinf(got))
		return got == want || (isinf(got) && fabs(want) + bound > 0x1.fffffep127 &&
				       !signbit(got) == !signbit(want));
	return fabs(got - want) <= bound;
}

/* ---- the run ------------------------------------------------------------------------------ */

static void run_levels(uint32_t mask)
{
	struct unpu_cpu_ops tables[NUM_LEVELS];
	const struct unpu_cpu_ops *below = NULL;
	const uint32_t have = unpu_cpu_detect() & mask;
	uint32_t flags = have & UNPU_CPU_MASK_NEON_REORDER;	/* no level, a choice of twins */

	for (size_t i = 0; i < NUM_LEVELS; i++) {
		struct check_level level = { .ops = &tables[i], .below = below };

		if ((levels[i].flag & have) != levels[i].flag) {
			printf("skip %s: %s\n", levels[i].name,
			       levels[i].flag & mask ? "not on this machine" : "masked");
			state.skipped++;
			continue;
		}
		flags |= levels[i].flag;
		unpu_cpu_ops_init(&tables[i], flags);
		if (strcmp(tables[i].name, levels[i].name)) {
			printf("skip %s: not in this build\n", levels[i].name);
			state.skipped++;
			continue;
		}
		for (size_t f = 0; f < NUM_FAMILIES; f++)
			families[f].check(&level);
		below = &tables[i];
	}
}

/* Everything with the first tuning, matrices alone with the others. */
static void run_tuning(const struct unpu_cpu_ops *ops, const char *tuning, int only_matrices)
{
	struct check_level level = { .ops = ops, .only_matrices = only_matrices };

	level.device = ondevice_open(state.device, tuning);
	if (!level.device) {
		state.failed++;
		return;
	}
	check_shader(&level);
	ondevice_close(level.device);
}

static void run_device(void)
{
	char tunings[ONDEVICE_MAX_TUNINGS][ONDEVICE_TUNING];
	struct unpu_cpu_ops ops;
	uint32_t count;
	int ret;

	unpu_cpu_ops_init(&ops, UNPU_CPU_MASK_C);
	if (state.tuning) {
		run_tuning(&ops, state.tuning, 0);
		return;
	}
	ret = ondevice_tunings(state.device, tunings, &count);
	state.skipped += ret > 0;
	state.failed += ret < 0;
	for (uint32_t i = 0; i < count; i++) {
		size_t math = strcspn(tunings[i], "/") + 1;
		int seen = 0, others = 0;

		for (uint32_t j = 0; j < i; j++) {
			seen |= !strncmp(tunings[i], tunings[j], math);
			others |= !strncmp(tunings[j], "f32", 3);
		}
		/* f32 and f32s have their own attn and sample. */
		others &= seen || strncmp(tunings[i], "f32", 3);
		if (!seen || !state.quick)
			run_tuning(&ops, tunings[i], others);
	}
}

static int usage(const char *self)
{
	fprintf(stderr, "usage: %s [--seed=N] [--function=WILDCARD] [--mask=NAME] [--bench] [-v]\n"
		"       [--device=vulkan:N [--tuning=NAME] [--quick]]\n", self);
	return 2;
}

int main(int argc, char **argv)
{
	uint32_t mask;

	state.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
	state.mask = getenv("UNPU_CPUMASK");
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "--seed=", 7))
			state.seed = strtoull(argv[i] + 7, NULL, 0);
		else if (!strncmp(argv[i], "--function=", 11))
			state.function = argv[i] + 11;
		else if (!strncmp(argv[i], "--mask=", 7))
			state.mask = argv[i] + 7;
		else if (!strncmp(argv[i], "--device=", 9))
			state.device = argv[i] + 9;
		else if (!strncmp(argv[i], "--tuning=", 9))
			state.tuning = argv[i] + 9;
		else if (!strcmp(argv[i], "--quick"))
			state.quick = 1;
		else if (!strcmp(argv[i], "--bench"))
			state.bench = 1;
		else if (!strcmp(argv[i], "-v"))
			state.verbose = 1;
		else
			return usage(argv[0]);
	}
	if (unpu_cpu_mask_parse(state.mask, &mask)) {
		fprintf(stderr, "%s: unknown instruction set '%s'\n", argv[0], state.mask);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("checkunpu: --seed=%llu\n", (unsigned long long)state.seed);
	catch_signals();
	if (state.device)
		run_device();
	else
		run_levels(mask);
	printf("%u passed, %u failed, %u skipped\n", state.passed, state.failed, state.skipped);
	return state.failed || !(state.passed + (state.device ? state.skipped : 0));
}
