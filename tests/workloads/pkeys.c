/* SPDX-License-Identifier: GPL-2.0-only */
/* Writable pages given a protection key, and rewritten. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	int key = pkey_alloc(0, 0);

	if (key < 0)
		err(1, "pkey_alloc");
	write_each(memory, pages, 1);
	settle();
	if (pkey_mprotect(memory, pages * PAGE, RW, key))
		err(1, "pkey_mprotect");
	write_and_report(memory, pages);
	return 0;
}
