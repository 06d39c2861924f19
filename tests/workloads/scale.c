/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What write-protect faults take where there are many mappings, or many CPUs that fault.
 *
 *	scale MAPPINGS CPUS PAGES
 *
 * MAPPINGS private anonymous mappings have PAGES pages together, which are written to, made
 * read-only and writable again. A thread on each CPU writes to its share again, to one mapping
 * after the other. Without the optimization each is a fault that makes a PTE writable and no more:
 * one that copies would interrupt the process's other CPUs and wait for them. Prints the
 * nanoseconds from the first of these writes to the last.
 */
#include "markers.h"
#include "workload.h"
#include <pthread.h>
#include <time.h>

static size_t mappings, cpus, each;
static char *first;
static pthread_barrier_t ready, done;

static char *page_of(size_t mapping, size_t page)
{
	return first + (mapping * (each + 1) + page) * PAGE;
}

static void write_marked(volatile char *place)
{
	MARK(COUNT_FROM);
	*place = 2;
	MARK(COUNT_TO);
}

static void *write_share(void *argument)
{
	size_t cpu = (size_t)argument;
	size_t from = mappings * cpu / cpus, to = mappings * (cpu + 1) / cpus;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
	pthread_barrier_wait(&ready);
	for (size_t page = 0; page < each; page++)
		for (size_t mapping = from; mapping < to; mapping++)
			write_marked(page_of(mapping, page));
	pthread_barrier_wait(&done);
	return NULL;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000UL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	uint64_t begun;

	if (argc != 4)
		errx(2, "scale MAPPINGS CPUS PAGES");
	mappings = atol(argv[1]);
	cpus = atol(argv[2]);
	each = atol(argv[3]) / mappings;
	first = next_place;
	for (size_t mapping = 0; mapping < mappings; mapping++) {
		char *place = page_of(mapping, 0);
		size_t size = each * PAGE;
		int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

		if (mmap(place, size, RW, flags, -1, 0) != place || madvise(place, size, MADV_NOHUGEPAGE))
			err(1, "mmap");
		write_each(place, each, 1);
		toggle(place, each);
	}
	pthread_barrier_init(&ready, NULL, cpus + 1);
	pthread_barrier_init(&done, NULL, cpus + 1);
	for (size_t cpu = 0; cpu < cpus; cpu++)
		if (pthread_create(&thread, NULL, write_share, (void *)cpu))
			errx(1, "pthread_create");
	pthread_barrier_wait(&ready);
	begun = now();
	pthread_barrier_wait(&done);
	printf("{\"faults\": %zu, \"ns\": %lu}\n", mappings * each, now() - begun);
	return 0;
}
