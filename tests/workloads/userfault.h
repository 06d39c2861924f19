/* SPDX-License-Identifier: GPL-2.0-only */
/* Write protection through userfaultfd(2), and a thread that lifts it page by page. */
#ifndef USERFAULT_H
#define USERFAULT_H

#include "workload.h"
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>

static int uffd;

static void write_protect(char *start, size_t count, int on)
{
	struct uffdio_writeprotect range = {
		.range = {.start = (uintptr_t)start, .len = count * PAGE},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &range))
		err(1, "UFFDIO_WRITEPROTECT");
}

static void watch_writes(char *memory, size_t pages)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register registration = {
		.range = {.start = (uintptr_t)memory, .len = pages * PAGE},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		err(1, "userfaultfd");
	if (ioctl(uffd, UFFDIO_REGISTER, &registration))
		err(1, "UFFDIO_REGISTER");
}

static void *monitor(void *unused)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof(message)) == sizeof(message)) {
		told++;
		write_protect((char *)(message.arg.pagefault.address & ~(PAGE - 1)), 1, 0);
	}
	return unused;
}

static void release_as_they_fault(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, monitor, NULL))
		errx(1, "pthread_create");
	/* Its stack and its first read fault before the account begins. */
	usleep(100000);
}

#endif
