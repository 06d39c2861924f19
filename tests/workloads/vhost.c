/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PAGES, half of them rewritten after a toggle and half touched for the first time, not by the
 * process's own threads: vhost's worker puts a packet into each. Up to Linux 6.3 that is a kernel
 * thread in borrowed memory, whose faults are none of the process's in getrusage(2); since 6.4
 * (6e890c5d5021) it is a thread of the process. The module vhost_vsock must be there.
 *
 *	vhost [PAGES]
 */
#include "workload.h"

#include <linux/vhost.h>
#include <linux/virtio_ring.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define RECEIVING 0
#define QUEUES 2	/* the other one is for sending, and stays empty */
#define BUFFERS 64
#define CID 61
#define ALIGNMENT 4096

struct guest {
	int vhost;
	unsigned int packets;
	struct vring queues[QUEUES];
};

static void tell(struct guest *guest, unsigned long request, void *argument)
{
	if (ioctl(guest->vhost, request, argument))
		err(1, "ioctl %#lx of /dev/vhost-vsock", request);
}

static void new_queue(struct guest *guest, unsigned int index)
{
	struct vring *queue = &guest->queues[index];
	void *memory = mmap(NULL, vring_size(BUFFERS, ALIGNMENT), RW,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct vhost_vring_state size = {index, BUFFERS}, base = {index, 0};
	struct vhost_vring_addr address = {.index = index};

	if (memory == MAP_FAILED)
		err(1, "mmap of a queue");
	vring_init(queue, BUFFERS, memory, ALIGNMENT);
	address.desc_user_addr = (uintptr_t)queue->desc;
	address.avail_user_addr = (uintptr_t)queue->avail;
	address.used_user_addr = (uintptr_t)queue->used;
	tell(guest, VHOST_SET_VRING_NUM, &size);
	tell(guest, VHOST_SET_VRING_BASE, &base);
	tell(guest, VHOST_SET_VRING_ADDR, &address);
}

/* A virtual machine of our own memory, at the addresses that it has here. */
static struct guest new_guest(void)
{
	struct guest guest = {.vhost = open("/dev/vhost-vsock", O_RDWR)};
	struct {
		struct vhost_memory header;
		struct vhost_memory_region all;
	} table = {.header.nregions = 1, .all.memory_size = (1UL << 47) - PAGE};
	uint64_t cid = CID, features = 0;
	int running = 1;

	if (guest.vhost < 0)
		err(1, "/dev/vhost-vsock");
	tell(&guest, VHOST_SET_OWNER, NULL);
	tell(&guest, VHOST_SET_FEATURES, &features);
	tell(&guest, VHOST_SET_MEM_TABLE, &table);
	for (unsigned int index = 0; index < QUEUES; index++)
		new_queue(&guest, index);
	tell(&guest, VHOST_VSOCK_SET_GUEST_CID, &cid);
	tell(&guest, VHOST_VSOCK_SET_RUNNING, &running);
	return guest;
}

/*
 * Let the worker put a packet, which asks for a connection, at @place; wait for it. The socket
 * stays open: nothing more is to be said of the connection.
 */
static void receive_at(struct guest *guest, char *place)
{
	struct vring *queue = &guest->queues[RECEIVING];
	unsigned int buffer = guest->packets++;
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = CID, .svm_port = 1};
	int host = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (buffer >= BUFFERS)
		errx(2, "too many pages");
	queue->desc[buffer] = (struct vring_desc){(uintptr_t)place, 64, VRING_DESC_F_WRITE, 0};
	queue->avail->ring[buffer] = buffer;
	__atomic_store_n(&queue->avail->idx, guest->packets, __ATOMIC_RELEASE);
	if (host < 0)
		err(1, "a socket of AF_VSOCK");
	if (!connect(host, (void *)&address, sizeof(address)) || errno != EINPROGRESS)
		err(1, "connect to the guest");
	while (__atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) != guest->packets)
		sched_yield();
	if (!queue->used->ring[buffer].len)
		errx(1, "an empty packet");
}

int main(int argc, char **argv)
{
	size_t pages = pages_wanted(argc, argv);
	char *memory = map_anonymous(pages), *scratch = map_anonymous(1);
	struct guest guest = new_guest();
	struct account before;

	write_each(memory, pages / 2, 1);
	settle();
	/* The worker begins, and all but the pages is touched. */
	receive_at(&guest, scratch);
	toggle(memory, pages);
	look_at(memory, pages);
	begin(&before);
	for (size_t page = 0; page < pages; page++)
		receive_at(&guest, memory + page * PAGE);
	report(memory, pages, account_since(before));
	return 0;
}
