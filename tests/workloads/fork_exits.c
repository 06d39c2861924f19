/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As toggle.c, after a child that shared the pages has exited. Nobody shares them any
 * more, but the kernel finds that out only at the next write fault.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);

	write_each(memory, pages, 1);
	settle();
	fork_and_wait();
	toggle(memory, pages);
	account_now();	/* write-faults on what the account itself uses */
	write_and_report(memory, pages);
	return 0;
}
