/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For a first look: three mappings that are written, made read-only and
 * writable again, and rewritten. Only what nobody shares can be made writable
 * at once; a live child's pages must be copied, pages only read so far too.
 */
#include "workload.h"
#include <sys/prctl.h>

#define ROUNDS 10

int main(void)
{
	char *private = map_anonymous(1009);
	char *shared = map_anonymous(499);
	char *only_read = map_anonymous(251);
	pid_t child;

	write_each(private, 1009, 1);
	for (int round = 0; round < ROUNDS; round++) {
		toggle(private, 1009);
		write_each(private, 1009, round);
	}

	write_each(shared, 499, 1);
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	toggle(shared, 499);
	write_each(shared, 499, 2);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);

	read_each(only_read, 251);
	toggle(only_read, 251);
	write_each(only_read, 251, 1);
	return 0;
}
