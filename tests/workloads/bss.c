/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of .bss that is toggled, of a program that has allocated nothing. Without address
 * randomization (setarch -R) the heap would begin where .bss ends. It tells where that memory is, and
 * whether /proc/self/maps calls it the heap.
 */
#include "workload.h"

#define PAGES 64

static char area[PAGES * PAGE] __attribute__((aligned(PAGE)));

/* Without the C library's streams, which allocate. */
static int is_heap(unsigned long address)
{
	static char maps[1 << 16];
	int file = open("/proc/self/maps", O_RDONLY), found = 0;
	ssize_t length, filled = 0;

	while ((length = read(file, maps + filled, sizeof(maps) - 1 - filled)) > 0)
		filled += length;
	close(file);
	for (char *line = strtok(maps, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= address && address < end)
			found = strstr(line, "[heap]") != NULL;
	}
	return found;
}

int main(void)
{
	int heap;

	write_each(area, PAGES, 1);
	toggle(area, PAGES);
	heap = is_heap((unsigned long)area);
	dprintf(1, "%#lx %d\n", (unsigned long)area, heap);
	return 0;
}
