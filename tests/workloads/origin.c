/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One mapping that three write to: the program, the kernel for it (read(2)), and another process
 * (process_vm_writev(2)). origin PROGRAM KERNEL REMOTE: pages of each.
 */
#include "workload.h"

#include <sys/uio.h>

static void write_for(pid_t owner, char *memory, size_t pages)
{
	static char source[PAGE];

	for (size_t page = 0; page < pages; page++) {
		struct iovec from = {source, PAGE}, to = {memory + page * PAGE, PAGE};

		if (process_vm_writev(owner, &from, 1, &to, 1, 0) != PAGE)
			err(1, "process_vm_writev");
	}
}

int main(int argc, char **argv)
{
	size_t program, kernel, remote;
	int zero = open("/dev/zero", O_RDONLY), begin[2];
	char *memory, byte = 0;
	pid_t child;

	if (argc != 4)
		errx(2, "usage: origin PROGRAM KERNEL REMOTE");
	program = strtoul(argv[1], NULL, 0);
	kernel = strtoul(argv[2], NULL, 0);
	remote = strtoul(argv[3], NULL, 0);
	if (pipe(begin))
		err(1, "pipe");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		if (read(begin[0], &byte, 1) != 1)
			_exit(1);
		/* Its own mapping comes later, so the address is the other's alone. */
		write_for(getppid(), (char *)next_place + (program + kernel) * PAGE, remote);
		_exit(0);
	}
	memory = map_anonymous(program + kernel + remote);
	write_each(memory, program, 1);
	for (size_t page = program; page < program + kernel; page++)
		if (read(zero, memory + page * PAGE, PAGE) != PAGE)
			err(1, "read");
	if (write(begin[1], &byte, 1) != 1)
		err(1, "write");
	waitpid(child, NULL, 0);
	dprintf(1, "{\"pid\": %d, \"start\": \"%p\"}\n", getpid(), memory);
	return 0;
}
