/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages swapped out, toggled while they are, and rewritten: they come back writable or not. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	unsigned char resident[pages];
	size_t left = 0;

	write_each(memory, pages, 1);
	settle();
	if (madvise(memory, pages * PAGE, MADV_PAGEOUT))
		err(1, "MADV_PAGEOUT");
	if (mincore(memory, pages * PAGE, resident))
		err(1, "mincore");
	for (size_t page = 0; page < pages; page++)
		left += resident[page] & 1;
	if (left)
		errx(1, "%zu pages were not swapped out", left);
	toggle(memory, pages);
	write_and_report(memory, pages);
	return 0;
}
