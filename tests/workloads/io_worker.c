/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PAGES are rewritten after a toggle, not by the process's own threads: io_uring's worker reads
 * a byte of /dev/zero into each. Since 3bfe6106693b (Linux 5.12, and in 5.10's later releases) that
 * is a thread of the process to the kernel.
 *
 *	io_worker [PAGES]
 */
#include "workload.h"

#include <linux/io_uring.h>

#define ENTRIES 4

struct ring {
	int fd;
	struct io_uring_params params;
	char *queues;
	struct io_uring_sqe *entries;
};

static uint32_t *at(struct ring *ring, uint32_t offset)
{
	return (uint32_t *)(ring->queues + offset);
}

static void *map_ring(struct ring *ring, size_t size, off_t offset)
{
	void *memory = mmap(NULL, size, RW, MAP_SHARED | MAP_POPULATE, ring->fd, offset);

	if (memory == MAP_FAILED)
		err(1, "mmap of a ring");
	return memory;
}

static struct ring new_ring(void)
{
	struct ring ring = {};
	size_t size;

	ring.fd = syscall(__NR_io_uring_setup, ENTRIES, &ring.params);
	if (ring.fd < 0)
		err(1, "io_uring_setup");
	size = ring.params.cq_off.cqes + ring.params.cq_entries * sizeof(struct io_uring_cqe);
	if (size < ring.params.sq_off.array + ring.params.sq_entries * sizeof(uint32_t))
		size = ring.params.sq_off.array + ring.params.sq_entries * sizeof(uint32_t);
	ring.queues = map_ring(&ring, size, IORING_OFF_SQ_RING);
	ring.entries = map_ring(&ring, ENTRIES * sizeof(*ring.entries), IORING_OFF_SQES);
	return ring;
}

/* Let a worker read a byte of @file to @place, and wait for it. */
static void read_by_worker(struct ring *ring, int file, char *place)
{
	uint32_t *tail = at(ring, ring->params.sq_off.tail), *head = at(ring, ring->params.cq_off.head);
	uint32_t slot = *tail % ENTRIES, done = *head % ring->params.cq_entries;
	struct io_uring_cqe *results = (void *)at(ring, ring->params.cq_off.cqes);

	ring->entries[slot] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = file,
		.addr = (uintptr_t)place, .len = 1,
	};
	at(ring, ring->params.sq_off.array)[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		err(1, "io_uring_enter");
	if (results[done].res != 1)
		errx(1, "a worker's read: %s", strerror(-results[done].res));
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	int zeros = open("/dev/zero", O_RDONLY);
	char *memory = map_anonymous(pages), scratch;
	struct ring ring = new_ring();
	struct account before;

	write_each(memory, pages, 1);
	settle();
	/* The worker begins, and all but the pages is touched. */
	read_by_worker(&ring, zeros, &scratch);
	toggle(memory, pages);
	look_at(memory, pages);
	begin(&before);
	for (size_t page = 0; page < pages; page++)
		read_by_worker(&ring, zeros, memory + page * PAGE);
	report(memory, pages, account_since(before));
	return 0;
}
