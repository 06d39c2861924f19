/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of .bss that is toggled, of a program that has allocated nothing. Without address
 * randomization (setarch -R) the heap would begin where .bss ends. It tells where that memory is, and
 * whether the heap is in one VMA with it.
 */
#include "workload.h"

#define PAGES 64

static char area[PAGES * PAGE] __attribute__((aligned(PAGE)));

/* Reads a file without the C library's streams, which allocate. */
static char *text_of(const char *path)
{
	static char text[1 << 16];
	int file = open(path, O_RDONLY);
	ssize_t length, filled = 0;

	while ((length = read(file, text + filled, sizeof(text) - 1 - filled)) > 0)
		filled += length;
	close(file);
	text[filled] = '\0';
	return text;
}

/* proc_pid_stat(5): the 47th field, of which the program's name, in brackets, is the second. */
static unsigned long heap_start(void)
{
	char *at = strrchr(text_of("/proc/self/stat"), ')');

	for (int field = 2; field < 47; field++)
		at = strchr(at + 1, ' ');
	return strtoul(at, NULL, 10);
}

/* Whether it is in one VMA with some of the heap. Up to Linux 6.5 the maps say so of what touches it. */
static int is_heap(unsigned long address)
{
	unsigned long heap = heap_start(), heap_end = (unsigned long)sbrk(0);

	for (char *line = strtok(text_of("/proc/self/maps"), "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= address && address < end)
			return start < heap_end && end > heap;
	}
	return 0;
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
