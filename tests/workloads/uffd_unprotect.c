/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages write-protected through userfaultfd and released again at once, then rewritten. */
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
	write_protect(memory, pages, 0);
	write_and_report(memory, pages);
	return 0;
}
