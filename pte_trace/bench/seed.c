/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two benchmarks that the optimization was posted with:
 *
 *	seed MODE micro ITERATIONS SIZE...	single writes to fresh memory
 *	seed MODE macro SIZE LOOPS		protection toggled and all rewritten
 *
 * MODE `timed` measures. MODE `watched` stops at both edges of each write and
 * waits for a line on standard input, so that a tracer can read its counters
 * there. Every line of output is a JSON object.
 *
 * Times are read from the time stamp counter. In a guest that counts instructions
 * (QEMU's -icount) it is their count, exactly; the kernel's clocks are made from
 * it with a rate that differs from boot to boot.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ATTEMPTS 10
#define TICK_LENGTH 50000

typedef void write_function(char *memory, size_t size);

struct access {
	const char *name;
	write_function *write;
};

enum phase { FIRST_WRITE, SECOND_WRITE, AFTER_MPROTECT, AFTER_SOFT_DIRTY, PHASES };

struct times {
	uint64_t min, max, total;
};

static const char *const phase_names[] = {"first", "second", "mprotect", "soft_dirty"};

/* 128 GiB below the usual mmap area: nothing else is mapped there. */
static char *const place = (char *)0x600000000000UL;
static char *scratch;
static bool watched, soft_dirty, interrupted;
static int clear_refs, pagemap;
static uint64_t tick_at, tick_period;
static double cycles_per_ns;

static void write_all(char *memory, size_t size)
{
	memset(memory, 1, size);
}

static void write_one_per_page(char *memory, size_t size)
{
	for (size_t offset = 0; offset < size; offset += PAGE)
		*(volatile char *)(memory + offset) = 1;
}

static const struct access accesses[] = {
	{"memset", write_all},
	{"byte_per_page", write_one_per_page},
};

static char *map(char *where, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED_NOREPLACE : 0);
	char *memory = mmap(where, size, RW, flags, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap of %zu bytes", size);
	/* One fault may fill 512 small pages otherwise; a kernel without huge pages refuses. */
	madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

static void toggle(char *memory, size_t size)
{
	if (mprotect(memory, size, PROT_READ) || mprotect(memory, size, RW))
		err(1, "mprotect");
}

static void clear_soft_dirty(void)
{
	if (pwrite(clear_refs, "4", 1, 0) != 1)
		err(1, "/proc/self/clear_refs");
}

static bool is_soft_dirty(const char *memory)
{
	uint64_t entry;
	off_t offset = (uintptr_t)memory / PAGE * sizeof(entry);

	if (pread(pagemap, &entry, sizeof(entry), offset) != sizeof(entry))
		err(1, "/proc/self/pagemap");
	return entry >> 55 & 1;
}

/* Found by doing it: without CONFIG_MEM_SOFT_DIRTY the files may be there and have no effect. */
static bool has_soft_dirty(void)
{
	bool before, cleared, after;

	clear_refs = open("/proc/self/clear_refs", O_WRONLY);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (clear_refs < 0 || pagemap < 0)
		return false;
	write_all(scratch, PAGE);
	before = is_soft_dirty(scratch);
	clear_soft_dirty();
	cleared = !is_soft_dirty(scratch);
	write_all(scratch, PAGE);
	after = is_soft_dirty(scratch);
	return before && cleared && after;
}

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static uint64_t cycles(void)
{
	_mm_lfence();
	return __rdtsc();
}

static uint64_t elapsed(write_function *write, char *memory, size_t size)
{
	uint64_t start = cycles();

	write(memory, size);
	return cycles() - start;
}

/* The coarse clock moves with the kernel's tick, though not with each. */
static void await_tick(void)
{
	uint64_t before = nanoseconds(CLOCK_MONOTONIC_COARSE);

	while (nanoseconds(CLOCK_MONOTONIC_COARSE) == before)
		;
}

static void learn_clocks(void)
{
	struct timespec resolution;
	uint64_t from_cycles, from;

	clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
	tick_period = resolution.tv_nsec;
	await_tick();
	from_cycles = cycles();
	from = nanoseconds(CLOCK_MONOTONIC_RAW);
	for (int tick = 0; tick < 5; tick++)
		await_tick();
	cycles_per_ns = (double)(cycles() - from_cycles) / (nanoseconds(CLOCK_MONOTONIC_RAW) - from);
	/* No more digits than so short a time can tell. */
	cycles_per_ns = (long)(cycles_per_ns * 10000 + 0.5) / 10000.0;
	tick_at = nanoseconds(CLOCK_MONOTONIC);
}

/* Whether a tick fell between two times of CLOCK_MONOTONIC; how long each takes differs. */
static bool ticked_between(uint64_t start, uint64_t end)
{
	return (start - tick_at) / tick_period != (end + TICK_LENGTH - tick_at) / tick_period;
}

static void edge(const char *which, const char *phase)
{
	if (!watched)
		return;
	printf("{\"edge\": \"%s\", \"phase\": \"%s\"}\n", which, phase);
	fflush(stdout);
	if (getchar() == EOF)
		errx(1, "nobody watches any more");
}

/*
 * What the write needs besides its own memory is made ready by the same write
 * to other memory: clearing soft-dirty bits protects the stack too. Just written
 * pages are taken off this CPU's LRU batch: up to Linux 5.17 a page in it was
 * copied on a write fault ("mm: optimize do_wp_page() for fresh pages in local
 * LRU pagevecs", 5.18); MADV_COLD drains it.
 */
static void prepare(write_function *write)
{
	elapsed(write, scratch, PAGE);
	if (madvise(scratch, PAGE, MADV_COLD))
		err(1, "MADV_COLD");
}

static uint64_t measure(enum phase phase, write_function *write, char *memory, size_t size)
{
	uint64_t start, took;

	prepare(write);
	edge("begin", phase_names[phase]);
	start = nanoseconds(CLOCK_MONOTONIC);
	took = elapsed(write, memory, size);
	interrupted |= ticked_between(start, nanoseconds(CLOCK_MONOTONIC));
	edge("end", phase_names[phase]);
	return took;
}

static void iterate(write_function *write, size_t size, uint64_t took[PHASES])
{
	char *memory = map(place, size);

	took[FIRST_WRITE] = measure(FIRST_WRITE, write, memory, size);
	took[SECOND_WRITE] = measure(SECOND_WRITE, write, memory, size);
	toggle(memory, size);
	took[AFTER_MPROTECT] = measure(AFTER_MPROTECT, write, memory, size);
	if (soft_dirty) {
		clear_soft_dirty();
		took[AFTER_SOFT_DIRTY] = measure(AFTER_SOFT_DIRTY, write, memory, size);
	}
	if (munmap(memory, size))
		err(1, "munmap");
}

static long preemptions(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		err(1, "getrusage");
	return usage.ru_nivcsw;
}

/* What the kernel did meanwhile for others, at its tick for one, is no cost of a write. */
static void iterate_undisturbed(write_function *write, size_t size, uint64_t took[PHASES])
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		long before = preemptions();

		interrupted = false;
		iterate(write, size, took);
		if (watched || (!interrupted && preemptions() == before))
			return;
	}
}

static void micro(const struct access *access, long iterations, size_t size)
{
	int phases = soft_dirty ? PHASES : AFTER_SOFT_DIRTY;
	struct times times[PHASES] = {};
	uint64_t took[PHASES];

	if (!watched)
		iterate(access->write, size, took);
	for (long iteration = 0; iteration < iterations; iteration++) {
		iterate_undisturbed(access->write, size, took);
		for (int phase = 0; phase < phases; phase++) {
			struct times *its = &times[phase];

			if (!iteration || took[phase] < its->min)
				its->min = took[phase];
			if (took[phase] > its->max)
				its->max = took[phase];
			its->total += took[phase];
		}
	}
	printf("{\"size\": %zu, \"access\": \"%s\", \"phases\": {", size, access->name);
	for (int phase = 0; phase < phases; phase++)
		printf("%s\"%s\": {\"min_ns\": %.1f, \"max_ns\": %.1f, \"total_ns\": %.1f}",
		       phase ? ", " : "", phase_names[phase], times[phase].min / cycles_per_ns,
		       times[phase].max / cycles_per_ns, times[phase].total / cycles_per_ns);
	printf("}}\n");
}

static void macro(size_t size, long loops)
{
	char *memory = map(place, size);
	uint64_t start, took;

	write_all(memory, size);
	prepare(write_all);
	edge("begin", "loops");
	start = cycles();
	for (long loop = 0; loop < loops; loop++) {
		toggle(memory, size);
		write_all(memory, size);
	}
	took = cycles() - start;
	edge("end", "loops");
	printf("{\"size\": %zu, \"loops\": %ld, \"total_ns\": %.1f}\n", size, loops,
	       took / cycles_per_ns);
}

static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
}

/* How many pages the stack lies on, for one, is a matter of chance otherwise. */
static void without_randomization(char **argv)
{
	int persona = personality(0xffffffff);

	if (persona & ADDR_NO_RANDOMIZE)
		return;
	personality(persona | ADDR_NO_RANDOMIZE);
	if (personality(0xffffffff) & ADDR_NO_RANDOMIZE)
		execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		errx(2, "usage: seed timed|watched micro|macro ARGUMENTS");
	watched = !strcmp(argv[1], "watched");
	without_randomization(argv);
	stay_on_this_cpu();
	scratch = map(NULL, PAGE);
	soft_dirty = has_soft_dirty();
	learn_clocks();
	printf("{\"soft_dirty\": %s, \"start\": %lu}\n", soft_dirty ? "true" : "false",
	       (uintptr_t)place);
	if (!strcmp(argv[2], "macro")) {
		macro(atol(argv[3]), atol(argv[4]));
		return 0;
	}
	for (int argument = 4; argument < argc; argument++)
		for (size_t access = 0; access < sizeof(accesses) / sizeof(*accesses); access++)
			micro(&accesses[access], atol(argv[3]), atol(argv[argument]));
	return 0;
}
