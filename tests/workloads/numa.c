/* SPDX-License-Identifier: GPL-2.0-only */
/*
 *	numa PAGES [away]
 *
 * Pages that NUMA balancing takes away, to see who uses them, and that are used again. It
 * does so for threads on one node too; a program with one thread it leaves alone. One that
 * goes away to another node has its pages moved there too.
 */
#include "workload.h"
#include <linux/mempolicy.h>
#include <pthread.h>
#include <time.h>

#define SECONDS 60
#define FIRST_NODE 1UL

static void *wait_for_the_end(void *unused)
{
	pause();
	return unused;
}

/* It leaves mappings alone that are bound to nodes: so are now all but @memory. */
static void bind_all_but(const char *memory)
{
	static unsigned long ranges[512][2];
	unsigned long node = FIRST_NODE;
	size_t count = 0;
	char line[1024];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (count < 512 && fgets(line, sizeof(line), maps)) {
		sscanf(line, "%lx-%lx", &ranges[count][0], &ranges[count][1]);
		count += ranges[count][0] != (uintptr_t)memory;
	}
	fclose(maps);
	/* Those that have no policy, as the vDSO, refuse it. */
	while (count--)
		syscall(SYS_mbind, ranges[count][0], ranges[count][1] - ranges[count][0],
			MPOL_BIND, &node, 8, 0);
}

static unsigned int node_of_this_cpu(void)
{
	unsigned int node;

	if (syscall(SYS_getcpu, NULL, &node, NULL))
		err(1, "getcpu");
	return node;
}

static void go_to(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %zu", cpu);
}

static void go_away(void)
{
	unsigned int from = node_of_this_cpu();

	for (size_t cpu = 0; node_of_this_cpu() == from; cpu++)
		go_to(cpu);
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	struct account before;
	time_t end = time(NULL) + SECONDS;
	pthread_t thread;

	go_to(0);
	write_each(memory, pages, 1);
	settle();
	if (pthread_create(&thread, NULL, wait_for_the_end, NULL))
		errx(1, "pthread_create");
	bind_all_but(memory);
	if (argc > 2)
		go_away();
	begin(&before);
	/* Twice over: the second time they were mapped by a hinting fault. */
	while (account_since(before).numa_pte_updates < 2 * (long)pages && time(NULL) < end)
		write_each(memory, pages, 2);
	write_each(memory, pages, 2);
	report(memory, pages, account_since(before));
	return 0;
}
