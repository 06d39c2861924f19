/* SPDX-License-Identifier: GPL-2.0-only */
/* Five pages of a System V segment; the first of an IPC namespace (unshare --ipc) has the inode 0. */
#include "workload.h"
#include <sys/shm.h>

int main(void)
{
	int id = shmget(0xabcd, 5 * PAGE, IPC_CREAT | 0600);
	char *memory = shmat(id, NULL, 0);

	if (memory == (void *)-1)
		err(1, "shmat");
	write_each(memory, 5, 1);
	shmctl(id, IPC_RMID, NULL);
	dprintf(1, "%d %#lx\n", id, (unsigned long)memory);
	return 0;
}
