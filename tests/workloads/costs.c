/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a change of protection and each kind of fault take, in nanoseconds: the least of
 * several rounds, as one line of JSON. Under --icount a nanosecond is an instruction.
 */
#include "workload.h"
#include <time.h>

#define ROUNDS 15

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

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	long read_only = -1, writable = -1, rewrite = -1, again = -1, first = -1, read = -1;

	for (int round = 0; round < ROUNDS; round++) {
		char *memory = map_anonymous(pages), *only_read = map_anonymous(pages);
		long times[7];

		times[0] = now();
		write_each(memory, pages, 1);
		times[1] = now();
		protect(memory, pages, PROT_READ);
		times[2] = now();
		protect(memory, pages, RW);
		times[3] = now();
		write_each(memory, pages, 2);
		times[4] = now();
		write_each(memory, pages, 3);
		times[5] = now();
		read_each(only_read, pages);
		times[6] = now();
		first = least(first, times[1] - times[0]);
		read_only = least(read_only, times[2] - times[1]);
		writable = least(writable, times[3] - times[2]);
		rewrite = least(rewrite, times[4] - times[3]);
		again = least(again, times[5] - times[4]);
		read = least(read, times[6] - times[5]);
		munmap(memory, pages * PAGE);
		munmap(only_read, pages * PAGE);
	}
	printf("{\"pages\": %zu, \"first_touch\": %ld, \"read_only\": %ld, \"writable\": %ld,"
	       " \"rewrite\": %ld, \"again\": %ld, \"read\": %ld}\n",
	       pages, first, read_only, writable, rewrite, again, read);
	return 0;
}
