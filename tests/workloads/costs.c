/* SPDX-License-Identifier: GPL-2.0-only */
/*
 *	costs PAGES [huge]
 *
 * What a change of protection and each kind of fault take, in nanoseconds: the least of
 * several rounds, as one line of JSON. Under --icount a nanosecond is an instruction.
 */
#include "workload.h"
#include <time.h>

#define ROUNDS 7

/* Of a page, small or huge. */
static size_t size = PAGE;

static char *map_pages(size_t pages)
{
	char *memory;

	next_place += -(uintptr_t)next_place & (size - 1);
	memory = map_anonymous(pages * size / PAGE);
	if (size > PAGE && madvise(memory, pages * size, MADV_HUGEPAGE))
		err(1, "madvise");
	return memory;
}

static void write_all(char *memory, size_t pages, char value)
{
	for (size_t page = 0; page < pages; page++)
		*(volatile char *)(memory + page * size) = value;
}

static void read_all(char *memory, size_t pages)
{
	for (size_t page = 0; page < pages; page++)
		(void)*(volatile char *)(memory + page * size);
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static long least(long least, long took)
{
	return least < 0 || took < least ? took : least;
}

/* Each page is write-protected, and nobody else has it any more. */
static void without_sharer(char *memory, size_t pages)
{
	write_all(memory, pages, 3);
	settle();
	fork_and_wait();
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	long read_only = -1, writable = -1, rewrite = -1, again = -1, first = -1, read = -1;
	long reuse = -1;

	if (argc > 2)
		size = 512 * PAGE;
	for (int round = 0; round < ROUNDS; round++) {
		char *memory = map_pages(pages), *only_read = map_pages(pages);
		long times[8];

		times[0] = now();
		write_all(memory, pages, 1);
		times[1] = now();
		protect(memory, pages * size / PAGE, PROT_READ);
		times[2] = now();
		protect(memory, pages * size / PAGE, RW);
		times[3] = now();
		write_all(memory, pages, 2);
		times[4] = now();
		write_all(memory, pages, 3);
		times[5] = now();
		read_all(only_read, pages);
		times[6] = now();
		without_sharer(memory, pages);
		times[7] = now();
		write_all(memory, pages, 4);
		reuse = least(reuse, now() - times[7]);
		first = least(first, times[1] - times[0]);
		read_only = least(read_only, times[2] - times[1]);
		writable = least(writable, times[3] - times[2]);
		rewrite = least(rewrite, times[4] - times[3]);
		again = least(again, times[5] - times[4]);
		read = least(read, times[6] - times[5]);
		munmap(memory, pages * size);
		munmap(only_read, pages * size);
	}
	printf("{\"pages\": %zu, \"first_touch\": %ld, \"read_only\": %ld, \"writable\": %ld,"
	       " \"rewrite\": %ld, \"again\": %ld, \"read\": %ld, \"reuse\": %ld}\n",
	       pages, first, read_only, writable, rewrite, again, read, reuse);
	return 0;
}
