/* SPDX-License-Identifier: GPL-2.0-only */
/* As toggle.c, with a child alive that shares the pages: each must be copied. */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	int ready[2];
	char byte = 0;
	pid_t child;

	if (pipe(ready))
		err(1, "pipe");

	write_each(memory, pages, 1);
	settle();
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		/* The child's own faults are over when the account begins: pgreuse counts all of them. */
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	if (read(ready[0], &byte, 1) != 1)
		err(1, "read");
	toggle(memory, pages);
	account_now();	/* copies what the account itself writes to */
	write_and_report(memory, pages);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}
