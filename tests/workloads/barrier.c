/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The write barrier of a garbage collector: pages are made read-only, and a SIGSEGV handler
 * makes each writable that is written to.
 */
#include "workload.h"

static void remember(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	protect((char *)((uintptr_t)info->si_addr & ~(PAGE - 1)), 1, RW);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = remember, .sa_flags = SA_SIGINFO};
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages), *elsewhere = map_anonymous(1);

	sigaction(SIGSEGV, &action, NULL);
	write_each(memory, pages, 1);
	settle();
	/* Once before it counts: the handler's frame and code. */
	protect(elsewhere, 1, PROT_READ);
	elsewhere[0] = 1;
	protect(memory, pages, PROT_READ);
	write_and_report(memory, pages);
	return 0;
}
