/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As many faults of each kind, and changes, as it can, for some rounds: first touches, reuse (a
 * page whose other user is gone) and copies (whose other user lives). Its account is of all rounds.
 */
#include "workload.h"

#define ROUNDS 40

/* Returns the child's PID where it is to live, until it is sent a signal. */
static pid_t shared_with(int lives)
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (!child) {
		if (lives)
			pause();
		_exit(0);
	}
	if (!lives && waitpid(child, NULL, 0) != child)
		err(1, "waitpid");
	return child;
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages);
	struct account before;
	pid_t child;

	begin(&before);
	for (int round = 0; round < ROUNDS; round++) {
		write_each(memory, pages, 1);
		settle();
		toggle(memory, pages);
		shared_with(0);
		write_each(memory, pages, 2);
		child = shared_with(1);
		write_each(memory, pages, 3);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		if (madvise(memory, pages * PAGE, MADV_DONTNEED))
			err(1, "madvise");
	}
	report(memory, pages, account_since(before));
	return 0;
}
