/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As many threads as pages, each of which writes to one that a userfaultfd monitor is to fill:
 * none is filled before all of them sleep in the kernel.
 */
#include "userfault.h"

static char *memory;

static void *writer(void *page)
{
	*(volatile char *)page = 1;
	return NULL;
}

static void watch_missing(size_t pages)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register registration = {
		.range = {.start = (uintptr_t)memory, .len = pages * PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		err(1, "userfaultfd");
	if (ioctl(uffd, UFFDIO_REGISTER, &registration))
		err(1, "UFFDIO_REGISTER");
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	pthread_t *threads = calloc(pages, sizeof(*threads));
	struct uffd_msg message;
	struct account nothing = {0};
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16 * PAGE);
	memory = map_anonymous(pages);
	watch_missing(pages);
	for (size_t page = 0; page < pages; page++)
		if (pthread_create(&threads[page], &small, writer, memory + page * PAGE))
			errx(1, "pthread_create");
	for (size_t page = 0; page < pages; page++)
		if (read(uffd, &message, sizeof(message)) != sizeof(message))
			err(1, "read");
	for (size_t page = 0; page < pages; page++) {
		struct uffdio_zeropage fill = {
			.range = {.start = (uintptr_t)memory + page * PAGE, .len = PAGE},
		};

		if (ioctl(uffd, UFFDIO_ZEROPAGE, &fill))
			err(1, "UFFDIO_ZEROPAGE");
	}
	for (size_t page = 0; page < pages; page++)
		pthread_join(threads[page], NULL);
	report(memory, pages, nothing);
	return 0;
}
