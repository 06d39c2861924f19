/* SPDX-License-Identifier: GPL-2.0-only */
/*
 *	huge [PAGES [HUGE]]
 *
 * HUGE huge pages. The first PAGES small pages of them are toggled and rewritten; 0: all,
 * so that no huge page is split.
 */
#include "workload.h"

#define HUGE (512 * PAGE)

int main(int argc, char **argv)
{
	size_t huge = argc > 2 ? atol(argv[2]) : 3;
	size_t asked = argc > 1 ? atol(argv[1]) : 0, pages = asked ? asked : huge * 512;
	char *memory = mmap(next_place, huge * HUGE, RW,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, huge * HUGE, MADV_HUGEPAGE))
		err(1, "huge pages");
	stay_on_this_cpu();
	account_now();
	for (size_t index = 0; index < huge; index++)
		memory[index * HUGE] = 1;
	settle();
	toggle(memory, pages);
	write_and_report(memory, pages);
	return 0;
}
