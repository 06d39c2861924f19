/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PAGES of a mapping are made ready, given each PROTECTION in turn, and rewritten.
 *
 *	toggle [PAGES [MAPPING [PROTECTION...]]]
 *
 * A protection is as in /proc/PID/maps: r--, rwx, ---. Without any: r-- rw-.
 */
#include "workload.h"

static char *make_ready(const char *mapping, size_t pages)
{
	int private = MAP_PRIVATE | MAP_ANONYMOUS, shared = MAP_SHARED | MAP_ANONYMOUS;
	char *memory;

	if (!strcmp(mapping, "written")) {
		memory = map_alone(pages, RW, private, -1);
		write_each(memory, pages, 1);
	} else if (!strcmp(mapping, "only-read")) {
		memory = map_alone(pages, RW, private, -1);
		read_each(memory, pages);
	} else if (!strcmp(mapping, "untouched")) {
		memory = map_alone(pages, RW, private, -1);
	} else if (!strcmp(mapping, "shared")) {
		memory = map_alone(pages, RW, shared, -1);
		write_each(memory, pages, 1);
	} else if (!strcmp(mapping, "shared-file")) {
		memory = map_alone(pages, RW, MAP_SHARED, file_of(pages));
		write_each(memory, pages, 1);
	} else if (!strcmp(mapping, "clean-file")) {
		memory = map_alone(pages, RW, MAP_SHARED, file_of(pages));
		read_each(memory, pages);
	} else if (!strcmp(mapping, "copied-file")) {
		memory = map_alone(pages, RW, MAP_PRIVATE, file_of(pages));
		write_each(memory, pages, 1);
	} else if (!strcmp(mapping, "file")) {
		memory = map_alone(pages, RW, MAP_PRIVATE, file_of(pages));
		read_each(memory, pages);
	} else {
		errx(2, "not a mapping: %s", mapping);
	}
	return memory;
}

static int protection(const char *text)
{
	return (text[0] == 'r' ? PROT_READ : 0) | (text[1] == 'w' ? PROT_WRITE : 0) |
	       (text[2] == 'x' ? PROT_EXEC : 0);
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = make_ready(argc > 2 ? argv[2] : "written", pages);

	settle();
	if (argc <= 3)
		toggle(memory, pages);
	for (int given = 3; given < argc; given++)
		protect(memory, pages, protection(argv[given]));
	write_and_report(memory, pages);
	return 0;
}
