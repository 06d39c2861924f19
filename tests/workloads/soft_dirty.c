/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages whose soft-dirty bits were cleared, as CRIU does, toggled and rewritten. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	int file = open("/proc/self/clear_refs", O_WRONLY);

	write_each(memory, pages, 1);
	settle();
	if (file < 0 || write(file, "4", 1) != 1)
		err(1, "/proc/self/clear_refs");
	toggle(memory, pages);
	account_now();	/* write-faults on what the account itself uses */
	write_and_report(memory, pages);
	return 0;
}
