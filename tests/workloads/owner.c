/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process in the cgroup A maps memory and waits; its child, in B, writes to it: the faults are
 * of the parent's memory. Then the same the other way round, at the next place.
 *
 *     owner PAGES A B
 */
#include "workload.h"
#include <sys/uio.h>

static void enter(const char *cgroup)
{
	char name[4096];
	FILE *file;

	snprintf(name, sizeof(name), "%s/cgroup.procs", cgroup);
	file = fopen(name, "w");
	if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file))
		err(1, "%s", name);
}

static void write_to(pid_t owner, char *memory, size_t pages)
{
	char byte = 1;

	for (size_t page = 0; page < pages; page++) {
		struct iovec from = {&byte, 1}, to = {memory + page * PAGE, 1};

		if (process_vm_writev(owner, &from, 1, &to, 1, 0) != 1)
			err(1, "process_vm_writev");
	}
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *parents = map_anonymous(pages), *childs = map_anonymous(pages), byte = 0;
	pid_t parent = getpid(), child;
	int ready[2];

	if (argc != 4 || pipe(ready))
		errx(2, "owner PAGES A B");
	enter(argv[2]);
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		enter(argv[3]);
		write_to(parent, parents, pages);
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	if (read(ready[0], &byte, 1) != 1)
		err(1, "read");
	write_to(child, childs, pages);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}
