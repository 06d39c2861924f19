/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What write-protect faults take where there are many mappings, or many CPUs that fault.
 *
 *	scale MAPPINGS CPUS PAGES
 *
 * MAPPINGS private anonymous mappings have PAGES pages together, and one more each that is written
 * before, so that whoever watches knows the mapping. The others have been read only; each write to
 * one is a fault that copies. A thread on each CPU writes to its share, to one mapping after the
 * other. Prints the nanoseconds from the first write to the last.
 */
#include "workload.h"
#include <pthread.h>
#include <time.h>

static size_t mappings, cpus, each;
static char *first;
static pthread_barrier_t ready, done;

static char *page_of(size_t mapping, size_t page)
{
	return first + (mapping * (each + 2) + page) * PAGE;
}

static void *write_share(void *argument)
{
	size_t cpu = (size_t)argument;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
	pthread_barrier_wait(&ready);
	for (size_t page = 1; page <= each; page++)
		for (size_t mapping = cpu; mapping < mappings; mapping += cpus)
			*(volatile char *)page_of(mapping, page) = 1;
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
		size_t size = (each + 1) * PAGE;
		int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

		if (mmap(place, size, RW, flags, -1, 0) != place || madvise(place, size, MADV_NOHUGEPAGE))
			err(1, "mmap");
		read_each(place + PAGE, each);
		write_each(place, 1, 1);
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
