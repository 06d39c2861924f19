/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One address used by one mapping after the other, each written to and printed
 * as /proc/self/maps shows it: anonymous, a file, a deleted file, a memfd,
 * shared anonymous memory, a longer anonymous one.
 */
#include "workload.h"

static char *const place = (char *)0x610000000000UL;

static void show(void)
{
	static char line[1024];
	char wanted[32];
	FILE *maps = fopen("/proc/self/maps", "r");

	snprintf(wanted, sizeof(wanted), "%lx-", (unsigned long)place);
	while (fgets(line, sizeof(line), maps))
		if (!strncmp(line, wanted, strlen(wanted)))
			fputs(line, stdout);
	fclose(maps);
}

static void use(size_t pages, int flags, int fd)
{
	if (mmap(place, pages * PAGE, RW, flags | MAP_FIXED, fd, 0) != place)
		err(1, "mmap");
	write_each(place, pages, 1);
	show();
	munmap(place, pages * PAGE);
}

static int make_file(const char *name, size_t pages)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || ftruncate(fd, pages * PAGE))
		err(1, "%s", name);
	return fd;
}

int main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : "/tmp";
	char name[4096];
	int fd;

	use(3, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	snprintf(name, sizeof(name), "%s/a file of its own", directory);
	fd = make_file(name, 5);
	use(5, MAP_PRIVATE, fd);
	unlink(name);
	use(5, MAP_SHARED, fd);
	close(fd);

	fd = syscall(SYS_memfd_create, "in memory", 0);
	if (fd < 0 || ftruncate(fd, 7 * PAGE))
		err(1, "memfd_create");
	use(7, MAP_SHARED, fd);
	close(fd);

	use(11, MAP_SHARED | MAP_ANONYMOUS, -1);
	use(13, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	return 0;
}
