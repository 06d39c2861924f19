/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages write-protected through userfaultfd, and written to: each fault waits
 * for the monitor thread, which lifts the protection, and is attempted again.
 */
#include "workload.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

static int uffd;
static size_t pages;
static char *memory;

static void write_protect(char *start, size_t count, int on)
{
	struct uffdio_writeprotect range = {
		.range = {.start = (uintptr_t)start, .len = count * PAGE},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &range))
		err(1, "UFFDIO_WRITEPROTECT");
}

static void *monitor(void *unused)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof(message)) == sizeof(message))
		write_protect((char *)(message.arg.pagefault.address & ~(PAGE - 1)), 1, 0);
	return unused;
}

int main(int argc, char **argv)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register registration;
	struct account before;
	pthread_t thread;

	pages = pages_wanted(argc, argv);
	memory = map_anonymous(pages);
	write_each(memory, pages, 1);
	settle();
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		err(1, "userfaultfd");
	registration = (struct uffdio_register){
		.range = {.start = (uintptr_t)memory, .len = pages * PAGE},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	if (ioctl(uffd, UFFDIO_REGISTER, &registration))
		err(1, "UFFDIO_REGISTER");
	write_protect(memory, pages, 1);
	if (pthread_create(&thread, NULL, monitor, NULL))
		errx(1, "pthread_create");
	usleep(100000);
	before = account_now();
	write_each(memory, pages, 2);
	report(memory, pages, account_since(before));
	return 0;
}
