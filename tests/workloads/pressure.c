/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PAGES are written to, toggled and written to again, ROUNDS times: more than there is room for,
 * so that they are reclaimed all the while. How often they fault is chance; what counts them
 * must agree all the same.
 *
 *	pressure [PAGES [ROUNDS]]
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	int rounds = argc > 2 ? atoi(argv[2]) : 3;
	char *scratch = map_anonymous(1), *memory;
	struct account before;

	write_each(scratch, 1, 1);
	toggle(scratch, 1);
	/* What is not locked could be reclaimed, and its faults are in the account too. */
	if (mlockall(MCL_CURRENT))
		err(1, "mlockall");
	memory = map_anonymous(pages);
	begin(&before);
	for (int round = 0; round < rounds; round++) {
		write_each(memory, pages, 1);
		toggle(memory, pages);
		write_each(memory, pages, 2);
	}
	report(memory, pages, account_since(before));
	return 0;
}
