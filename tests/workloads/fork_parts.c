/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A child that shared the pages is gone, and so is a part of their mapping. Before the fork the
 * process had changed the protection of another one.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *other = map_anonymous(1), *memory = map_anonymous(pages + 1);

	write_each(other, 1, 1);
	toggle(other, 1);
	write_each(memory, pages + 1, 1);
	settle();
	fork_and_wait();
	if (munmap(memory + pages * PAGE, PAGE))
		err(1, "munmap");
	account_now();
	write_and_report(memory, pages);
	return 0;
}
