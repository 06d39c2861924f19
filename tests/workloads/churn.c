/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COUNT processes that live for a moment. Each writes to PAGES of a private mapping of one file,
 * toggles it and writes again, and adds up what the kernel says it faulted then.
 *
 *	churn one-by-one|bomb|storm COUNT [PAGES]
 *
 * One after the other; by a fork bomb, all of whose processes fork until there were COUNT; or one
 * process that executes itself again, COUNT times.
 */
#include "workload.h"
#include <sys/prctl.h>

struct sums {
	long started;
	long done;
	long faults;
	long refused;
	long wraps;
};

static struct sums *sums;
static int sums_fd, file_fd;
static size_t pages;
static long count;

static void live(void)
{
	char *memory = map_alone(pages, RW, MAP_PRIVATE, file_fd), *scratch = map_anonymous(1);
	long before;

	/* All that the account touches beside: code, and pages shared with the parent. */
	write_each(scratch, 1, 1);
	toggle(scratch, 1);
	write_each(scratch, 1, 1);
	faults_taken();
	before = faults_taken();
	write_each(memory, pages, 1);
	toggle(memory, pages);
	write_each(memory, pages, 2);
	__sync_fetch_and_add(&sums->faults, faults_taken() - before);
	__sync_fetch_and_add(&sums->done, 1);
}

static void one_by_one(void)
{
	pid_t last = 0;

	for (long started = 0; started < count; started++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child == 0) {
			live();
			_exit(0);
		}
		waitpid(child, NULL, 0);
		sums->wraps += child < last;
		last = child;
	}
}

/* Where no more may be, one that has children waits for the end of one, another ends itself. */
static void bomb(void)
{
	while (__sync_add_and_fetch(&sums->started, 1) <= count) {
		pid_t child = fork();

		if (child == 0) {
			live();
			bomb();
			_exit(0);
		}
		if (child < 0) {
			__sync_fetch_and_add(&sums->refused, 1);
			__sync_fetch_and_sub(&sums->started, 1);
			if (wait(NULL) < 0 && getpid() != getpgrp())
				return;
		}
	}
	__sync_fetch_and_sub(&sums->started, 1);
	while (wait(NULL) > 0)
		;
}

static void storm(void)
{
	char left[24], size[24];

	if (count < 1)
		return;
	live();
	snprintf(left, sizeof(left), "%ld", count - 1);
	snprintf(size, sizeof(size), "%zu", pages);
	execl("/proc/self/exe", "churn", "storm", left, size, NULL);
	err(1, "exec");
}

static void *shared(int fd)
{
	void *memory = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	return memory;
}

/* The two files by fixed numbers, so that what is executed again finds them. */
static int file(const char *name, size_t size, int number)
{
	int made;

	if (fcntl(number, F_GETFD) >= 0)
		return number;
	made = memfd_create(name, 0);
	if (made < 0 || ftruncate(made, size) || dup2(made, number) < 0 || close(made))
		err(1, "memfd_create");
	return number;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		errx(2, "churn one-by-one|bomb|storm COUNT [PAGES]");
	count = atol(argv[2]);
	pages = argc > 3 ? atol(argv[3]) : 3;
	sums_fd = file("sums", PAGE, 100);
	file_fd = file("churn", pages * PAGE, 101);
	sums = shared(sums_fd);
	prctl(PR_SET_NAME, "churn");
	if (!strcmp(argv[1], "one-by-one")) {
		one_by_one();
	} else if (!strcmp(argv[1], "bomb")) {
		setpgid(0, 0);
		bomb();
	} else if (!strcmp(argv[1], "storm")) {
		storm();
	} else {
		errx(2, "not a kind of churn: %s", argv[1]);
	}
	printf("{\"processes\": %ld, \"pages\": %zu, \"faults\": %ld, \"refused\": %ld,"
	       " \"wraps\": %ld}\n",
	       sums->done, pages, sums->faults, sums->refused, sums->wraps);
	return 0;
}
