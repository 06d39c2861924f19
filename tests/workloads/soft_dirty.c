/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages whose soft-dirty bits were cleared, as CRIU does, toggled and rewritten. */
#include "workload.h"

#include <sys/rseq.h>

/* The kernel writes there when it has preempted the thread, which would be a fault of ours. */
static void write_rseq(void)
{
	volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);

	area->flags = area->flags;
}

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
	write_rseq();
	account_now();	/* write-faults on what the account itself uses */
	write_and_report(memory, pages);
	return 0;
}
