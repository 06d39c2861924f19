/* SPDX-License-Identifier: GPL-2.0-only */
/* COUNT children, one after the other, each writing to PAGES of its own and gone at once. */
#include "workload.h"
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	int count = argc > 2 ? atoi(argv[2]) : 200;

	for (int index = 0; index < count; index++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child == 0) {
			char name[32];
			char *memory = map_anonymous(pages);

			snprintf(name, sizeof(name), "child-%d", index);
			prctl(PR_SET_NAME, name);
			write_each(memory, pages, 1);
			_exit(0);
		}
		printf("%d\n", child);
		waitpid(child, NULL, 0);
	}
	return 0;
}
