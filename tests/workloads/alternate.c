/* SPDX-License-Identifier: GPL-2.0-only */
/* Every second page toggled: the mapping falls into VMAs of one page and grows together again. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);

	write_each(memory, pages, 1);
	settle();
	for (size_t page = 1; page < pages; page += 2)
		protect(memory + page * PAGE, 1, PROT_READ);
	for (size_t page = 1; page < pages; page += 2)
		protect(memory + page * PAGE, 1, RW);
	write_and_report(memory, pages);
	return 0;
}
