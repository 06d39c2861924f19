/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two functions write to one mapping, to 23 pages and to 46 (or PAGES and twice as many): for the
 * first time; after a child that shared them has exited; while a child shares them. In the
 * mapping after it 19 pages are written to by read(2), and 13 by a child's process_vm_writev().
 */
#include "workload.h"
#include <sys/uio.h>

#define ALONE __attribute__((noinline, noclone))
#define READ_PAGES 19
#define REMOTE_PAGES 13

ALONE static void write_few(char *memory, size_t pages)
{
	write_each(memory, pages, 1);
	asm volatile("");
}

ALONE static void write_many(char *memory, size_t pages)
{
	write_each(memory + pages * PAGE, 2 * pages, 2);
	asm volatile("");
}

static void write_both(char *memory, size_t pages)
{
	write_few(memory, pages);
	write_many(memory, pages);
	settle();
}

static void exits(void)
{
}

static void waits(void)
{
	pause();
}

static char *elsewhere;

static void writes_to_parent(void)
{
	char byte = 1;

	for (size_t page = READ_PAGES; page < READ_PAGES + REMOTE_PAGES; page++) {
		struct iovec from = {&byte, 1}, to = {elsewhere + page * PAGE, 1};

		if (process_vm_writev(getppid(), &from, 1, &to, 1, 0) != 1)
			err(1, "process_vm_writev");
	}
}

ALONE static void read_into(char *memory)
{
	int zero = open("/dev/zero", O_RDONLY);

	for (size_t page = 0; page < READ_PAGES; page++)
		if (read(zero, memory + page * PAGE, 1) != 1)
			err(1, "/dev/zero");
	close(zero);
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(3 * pages);
	pid_t child;

	elsewhere = map_anonymous(READ_PAGES + REMOTE_PAGES);
	write_both(memory, pages);
	waitpid(child_that(exits), NULL, 0);
	write_both(memory, pages);
	child = child_that(waits);
	write_both(memory, pages);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	read_into(elsewhere);
	waitpid(child_that(writes_to_parent), NULL, 0);
	return 0;
}
