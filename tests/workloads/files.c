/* SPDX-License-Identifier: GPL-2.0-only */
/* Files mapped privately, one beside the other: of each one page more is written to, from 4 on. */
#include "workload.h"

int main(int argc, char **argv)
{
	for (int each = 1; each < argc; each++) {
		int fd = open(argv[each], O_RDWR);

		if (fd < 0)
			err(1, "%s", argv[each]);
		write_each(map_alone(3 + each, RW, MAP_PRIVATE, fd), 3 + each, 1);
	}
	return 0;
}
