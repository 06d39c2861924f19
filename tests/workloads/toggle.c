/* SPDX-License-Identifier: GPL-2.0-only */
/* Private anonymous pages: written, made read-only and writable again, rewritten. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	struct account before;

	write_each(memory, pages, 1);
	settle();
	protect(memory, pages, PROT_READ);
	protect(memory, pages, RW);
	before = account_now();
	write_each(memory, pages, 2);
	report(memory, pages, account_since(before));
	return 0;
}
