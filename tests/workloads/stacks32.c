/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A 32-bit program that needs no C library: 23 pages are written to, then locked and unlocked,
 * five times.
 */
#define PAGES 23
#define PAGE 4096
#define PLACE 0x61000000UL
#define ALONE __attribute__((noinline, noclone))

static long call(long number, long a, long b, long c)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

ALONE static void write_it(void)
{
	for (long page = 0; page < PAGES; page++)
		(*(volatile char *)(PLACE + page * PAGE))++;
}

/* mprotect() is 125. */
ALONE static void lock_it(void)
{
	call(125, PLACE, PAGES * PAGE, 1);
	asm volatile("");
}

ALONE static void unlock_it(void)
{
	call(125, PLACE, PAGES * PAGE, 3);
	asm volatile("");
}

/* Without a frame, the first thing that the kernel starts. */
void _start(void)
{
	/* mmap()'s arguments are in memory: MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS. */
	unsigned long map[] = {PLACE, PAGES * PAGE, 3, 0x32, -1UL, 0};

	if (call(90, (long)map, 0, 0) != PLACE)
		call(1, 1, 0, 0);
	for (int turn = 0; turn < 5; turn++) {
		write_it();
		lock_it();
		unlock_it();
	}
	call(1, 0, 0, 0);
}
