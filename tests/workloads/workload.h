/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every workload needs: memory that touches no other mapping, and an
 * account of its own faults from the kernel, printed as the last line, in JSON.
 * Where there is a moment before the last writes, a line before it says what
 * /proc/self/pagemap holds then.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define GAP (64 * PAGE)
#define RW (PROT_READ | PROT_WRITE)

/* 128 GiB below the usual mmap area: nothing else is mapped there. */
static char *next_place = (char *)0x600000000000UL;

/* Map @pages with unmapped room on both sides, so that no VMA can merge with it. */
static char *map_alone(size_t pages, int prot, int flags, int fd)
{
	char *memory = mmap(next_place, pages * PAGE, prot, flags | MAP_FIXED_NOREPLACE, fd, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	/* One fault may fill 512 small pages otherwise. */
	madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
	next_place += pages * PAGE + GAP;
	return memory;
}

static char *map_anonymous(size_t pages)
{
	return map_alone(pages, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void protect(char *memory, size_t pages, int prot)
{
	if (mprotect(memory, pages * PAGE, prot))
		err(1, "mprotect");
}

static void toggle(char *memory, size_t pages)
{
	protect(memory, pages, PROT_READ);
	protect(memory, pages, RW);
}

static void write_each(char *memory, size_t pages, char value)
{
	for (size_t page = 0; page < pages; page++)
		*(volatile char *)(memory + page * PAGE) = value;
}

/*
 * Take just written pages off this CPU's LRU batch. A page in it has a reference
 * more, and up to Linux 5.17 such a page is copied on a write fault, not reused
 * ("mm: optimize do_wp_page() for fresh pages in local LRU pagevecs", 5.18).
 * madvise(MADV_COLD) drains the batch of the CPU it runs on.
 */
static void settle(void)
{
	static char *scratch;

	if (!scratch)
		scratch = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (scratch == MAP_FAILED || madvise(scratch, PAGE, MADV_COLD))
		err(1, "madvise");
}

/* A child had all that there is, and is gone. */
static void fork_and_wait(void)
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (child == 0)
		_exit(0);
	if (waitpid(child, NULL, 0) != child)
		err(1, "waitpid");
}

static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
}

static void read_each(char *memory, size_t pages)
{
	for (size_t page = 0; page < pages; page++)
		(void)*(volatile char *)(memory + page * PAGE);
}

/* Minor and major: one that had to be attempted again is a major fault to the kernel. */
static long faults_taken(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		err(1, "getrusage");
	return usage.ru_minflt + usage.ru_majflt;
}

/* A counter of the whole machine, or 0 where this kernel has none of that name. */
static long vmstat(const char *name)
{
	static char text[32768];
	int file = open("/proc/vmstat", O_RDONLY);
	ssize_t length = read(file, text, sizeof(text) - 1);
	size_t named = strlen(name);

	close(file);
	if (length < 0)
		err(1, "/proc/vmstat");
	text[length] = 0;
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, named) && line[named] == ' ')
			return atol(line + named);
	}
	return 0;
}

/*
 * What the kernel itself says: faults of this process (getrusage(2)), and of /proc/vmstat
 * pages that wp_page_reuse() reused, PMDs that were split, PTEs that NUMA balancing changed,
 * the faults that this caused, those of pages on the CPU's own node, and the pages that it moved.
 */
struct account {
	long faults;
	long reused;
	long split;
	long numa_pte_updates;
	long numa_hint_faults;
	long numa_hint_faults_local;
	long numa_pages_migrated;
};

/* What a userfaultfd monitor was told. */
static long told;

/* The kernel writes there where it has preempted the thread, which may be a fault of the thread. */
static void write_rseq(void)
{
	volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);

	area->flags = area->flags;
}

/* Each counter was read once before it counts, so that reading it faults no more. */
static struct account account_now(void)
{
	struct account now;

	write_rseq();
	now.reused = vmstat("pgreuse");
	now.split = vmstat("thp_split_pmd");
	now.numa_pte_updates = vmstat("numa_pte_updates");
	now.numa_hint_faults = vmstat("numa_hint_faults");
	now.numa_hint_faults_local = vmstat("numa_hint_faults_local");
	now.numa_pages_migrated = vmstat("numa_pages_migrated");
	now.faults = faults_taken();
	return now;
}

/* The account is written before it counts too: what it begins with is stored after that. */
static void begin(struct account *before)
{
	*before = (struct account){};
	asm volatile("" : "+m"(*before));
	*before = account_now();
}

static struct account account_since(struct account before)
{
	struct account now = account_now();

	now.faults -= before.faults;
	now.reused -= before.reused;
	now.split -= before.split;
	now.numa_pte_updates -= before.numa_pte_updates;
	now.numa_hint_faults -= before.numa_hint_faults;
	now.numa_hint_faults_local -= before.numa_hint_faults_local;
	now.numa_pages_migrated -= before.numa_pages_migrated;
	return now;
}

static void report(const char *memory, size_t pages, struct account account)
{
	printf("{\"pid\": %d, \"start\": \"%p\", \"pages\": %zu, \"faults\": %ld, \"reused\": %ld,"
	       " \"split\": %ld, \"told\": %ld, \"numa_pte_updates\": %ld,"
	       " \"numa_hint_faults\": %ld, \"numa_hint_faults_local\": %ld,"
	       " \"numa_pages_migrated\": %ld}\n",
	       getpid(), memory, pages, account.faults, account.reused, account.split, told,
	       account.numa_pte_updates, account.numa_hint_faults, account.numa_hint_faults_local,
	       account.numa_pages_migrated);
	fflush(stdout);
}

static void wait_until_asleep(pid_t pid)
{
	char name[32], text[1024], *state;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	do {
		int file = open(name, O_RDONLY);
		ssize_t length = read(file, text, sizeof(text) - 1);

		close(file);
		if (length < 0)
			err(1, "%s", name);
		text[length] = 0;
		state = strrchr(text, ')');
	} while (!state || state[2] != 'S');
}

/*
 * Print how many pages are not as plainly written ones of a process's own are: the bits of
 * /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). With LOOK_WITH_ME set, wait
 * for the end of the standard input, so that the parent can look at the same pages, and for
 * the parent to sleep: its faults count in pgreuse too.
 */
static void look_at(const char *memory, size_t pages)
{
	static uint64_t entry[512];
	size_t absent = 0, swapped = 0, file = 0, uffd_wp = 0, not_exclusive = 0, clean = 0;
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	for (size_t page = 0; page < pages; page++) {
		size_t index = page % 512, many = pages - page < 512 ? pages - page : 512;
		ssize_t length = many * sizeof(*entry);
		off_t offset = ((uintptr_t)memory / PAGE + page) * sizeof(*entry);

		if (!index && pread(pagemap, entry, length, offset) != length)
			err(1, "/proc/self/pagemap");
		absent += !(entry[index] >> 63 & 1);
		swapped += entry[index] >> 62 & 1;
		file += entry[index] >> 61 & 1;
		uffd_wp += entry[index] >> 57 & 1;
		not_exclusive += (entry[index] >> 63 & 1) && !(entry[index] >> 56 & 1);
		clean += !(entry[index] >> 55 & 1);
	}
	close(pagemap);
	printf("{\"start\": \"%p\", \"pages\": %zu, \"pagemap\": {\"absent\": %zu, \"swapped\": %zu,"
	       " \"file_or_shared\": %zu, \"uffd_wp\": %zu, \"not_exclusive\": %zu,"
	       " \"not_soft_dirty\": %zu}}\n",
	       memory, pages, absent, swapped, file, uffd_wp, not_exclusive, clean);
	fflush(stdout);
	if (getenv("LOOK_WITH_ME")) {
		while (read(STDIN_FILENO, entry, sizeof(entry)) > 0)
			;
		wait_until_asleep(getppid());
	}
}

/* Look at the pages, write to each and print the account of it. */
static void write_and_report(char *memory, size_t pages)
{
	struct account before;

	look_at(memory, pages);
	begin(&before);
	write_each(memory, pages, 2);
	report(memory, pages, account_since(before));
}

/* A forked child, which ends when it has done so. */
static pid_t child_that(void (*does)(void))
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		does();
		_exit(0);
	}
	return child;
}

/* A file of this many pages in the working directory, already without a name. */
static int file_of(size_t pages)
{
	int file = open(".", O_TMPFILE | O_RDWR, 0600);
	char page[PAGE] = "";

	if (file < 0)
		err(1, "a file in the working directory");
	for (size_t written = 0; written < pages; written++)
		if (write(file, page, PAGE) != (ssize_t)PAGE)
			err(1, "write");
	return file;
}

/* PAGES from the command line: a prime number says where a count comes from. */
static size_t pages_wanted(int argc, char **argv)
{
	long pages = argc > 1 ? atol(argv[1]) : 23;

	if (pages < 1)
		errx(2, "not a number of pages: %s", argv[1]);
	stay_on_this_cpu();
	account_now();
	return pages;
}

#endif
