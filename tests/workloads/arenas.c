/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * glibc's malloc in a thread: its arena is mapped without access and made accessible piece by
 * piece as it grows, before any page of it is there. Nothing to make writable at once.
 */
#include "workload.h"
#include <malloc.h>
#include <pthread.h>

/* glibc's HEAP_MAX_SIZE: an arena begins at a multiple of it. */
#define ARENA (64UL << 20)

static void *allocate(void *unused)
{
	char *last = malloc(PAGE);	/* makes the arena */
	struct account before;

	begin(&before);
	for (int count = 0; count < 100; count++) {
		last = malloc(16 * PAGE);
		write_each(last, 16, 1);
	}
	report((char *)((uintptr_t)last & ~(ARENA - 1)), 1600, account_since(before));
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	pages_wanted(argc, argv);
	mallopt(M_MMAP_THRESHOLD, ARENA);
	if (pthread_create(&thread, NULL, allocate, NULL))
		errx(1, "pthread_create");
	pthread_join(thread, NULL);
	return 0;
}
