/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages write-protected through userfaultfd, and written to: each fault waits
 * for the monitor thread, which lifts the protection, and is attempted again.
 */
#include "workload.h"
#include "userfault.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);

	write_each(memory, pages, 1);
	settle();
	watch_writes(memory, pages);
	write_protect(memory, pages, 1);
	release_as_they_fault();
	write_and_report(memory, pages);
	return 0;
}
