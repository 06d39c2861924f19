/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Five pages are written to and unmapped; seven, written to elsewhere, are moved by mremap() to
 * where they were, and toggled there in two parts.
 */
#include "workload.h"

int main(void)
{
	char *gone = map_anonymous(5), *moved = map_anonymous(7);

	write_each(gone, 5, 1);
	write_each(moved, 7, 1);
	munmap(gone, 5 * PAGE);
	if (mremap(moved, 7 * PAGE, 7 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, gone) != gone)
		err(1, "mremap");
	toggle(gone, 3);
	toggle(gone + 3 * PAGE, 4);
	return 0;
}
