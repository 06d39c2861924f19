/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages that NUMA balancing takes away, to see who uses them, and that are used again. It
 * does so for threads on one node too; a program with one thread it leaves alone.
 */
#include "workload.h"
#include <pthread.h>
#include <time.h>

#define SECONDS 60

static void *wait_for_the_end(void *unused)
{
	pause();
	return unused;
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	struct account before;
	time_t end = time(NULL) + SECONDS;
	pthread_t thread;

	write_each(memory, pages, 1);
	settle();
	if (pthread_create(&thread, NULL, wait_for_the_end, NULL))
		errx(1, "pthread_create");
	before = account_now();
	/* Twice over: the second time they were mapped by a hinting fault. */
	while (account_since(before).numa_pte_updates < 2 * (long)pages && time(NULL) < end)
		write_each(memory, pages, 2);
	write_each(memory, pages, 2);
	report(memory, pages, account_since(before));
	return 0;
}
