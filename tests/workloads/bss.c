/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of .bss that is toggled, of a program that allocates nothing. Without address randomization
 * (setarch -R) the heap would begin where .bss ends. It tells where that memory is.
 */
#include "workload.h"

#define PAGES 64

static char area[PAGES * PAGE] __attribute__((aligned(PAGE)));

int main(void)
{
	char said[32];
	int length;

	write_each(area, PAGES, 1);
	toggle(area, PAGES);
	/* The C library's streams would allocate. */
	length = snprintf(said, sizeof(said), "%#lx\n", (unsigned long)area);
	return write(STDOUT_FILENO, said, length) != length;
}
