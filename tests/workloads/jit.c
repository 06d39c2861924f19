/* SPDX-License-Identifier: GPL-2.0-only */
/* A just-in-time compiler that keeps W^X: code is written, made executable, run, seven times. */
#include "workload.h"

#define ROUNDS 7
#define RX (PROT_READ | PROT_EXEC)
#define RETURN ((char)0xc3)

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	struct account before;

	write_each(memory, pages, RETURN);
	settle();
	begin(&before);
	for (int round = 0; round < ROUNDS; round++) {
		protect(memory, pages, RX);
		((void (*)(void))memory)();
		protect(memory, pages, RW);
		write_each(memory, pages, RETURN);
	}
	report(memory, pages, account_since(before));
	return 0;
}
