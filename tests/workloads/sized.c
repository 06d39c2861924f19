/* SPDX-License-Identifier: GPL-2.0-only */
/*
 *	sized SIZE MODE [COUNT]
 *
 * COUNT pages of a SIZE (4k, thp, 2m, 1g: the last two are hugetlb's), each written to once,
 * write-protected in one way or another, and each written to once more.
 */
#include "workload.h"
#include "userfault.h"

/* Of Linux 6.7, and of linux/userfaultfd.h since. */
#define WP_UNPOPULATED	(1 << 13)
#define WP_ASYNC	(1 << 15)

static char *memory;
static size_t size, count;

static void write_first_byte_of_each(char value)
{
	for (size_t index = 0; index < count; index++)
		*(volatile char *)(memory + index * size) = value;
}

/* hugetlb's pages are set aside before; these are given back when the machine is. */
static void set_aside(size_t pages)
{
	char name[128], text[16];
	int file;

	snprintf(name, sizeof(name), "/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages",
		 size >> 10);
	file = open(name, O_RDWR);
	if (file < 0 || dprintf(file, "%zu", pages) < 0)
		err(1, "%s", name);
	if (pread(file, text, sizeof(text), 0) <= 0 || (size_t)atol(text) < pages)
		errx(1, "%s: not enough memory in one piece", name);
	close(file);
}

static void map(const char *named)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	if (!strcmp(named, "2m") || !strcmp(named, "1g")) {
		size = named[0] == '2' ? 2UL << 20 : 1UL << 30;
		flags |= MAP_HUGETLB | (named[0] == '2' ? 21 : 30) << MAP_HUGE_SHIFT;
		/* As many again where they are copied. */
		set_aside(2 * count);
	} else {
		size = named[0] == '4' ? PAGE : 512 * PAGE;
	}
	memory = mmap(next_place, count * size, RW, flags, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	/* A kernel without huge pages has none to keep away. */
	if (!(flags & MAP_HUGETLB) &&
	    madvise(memory, count * size, size == PAGE ? MADV_NOHUGEPAGE : MADV_HUGEPAGE) &&
	    !(size == PAGE && errno == EINVAL))
		err(1, "madvise");
}

static void toggled(void)
{
	toggle(memory, count * size / PAGE);
}

static void none(void)
{
	protect(memory, count * size / PAGE, PROT_NONE);
	protect(memory, count * size / PAGE, RW);
}

static void executable(void)
{
	protect(memory, count * size / PAGE, RW | PROT_EXEC);
}

static void stays(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pause();
}

static void ends(void)
{
}

/* With a child that has them too, and is there until we end. */
static void child(void)
{
	child_that(stays);
	toggled();
}

static void gone(void)
{
	waitpid(child_that(ends), NULL, 0);
	toggled();
}

static void soft_dirty(void)
{
	int file = open("/proc/self/clear_refs", O_WRONLY);

	if (file < 0 || write(file, "4", 1) != 1)
		err(1, "/proc/self/clear_refs");
	toggled();
}

static void *lift(void *unused)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof(message)) == sizeof(message)) {
		told++;
		write_protect((char *)(message.arg.pagefault.address & ~(size - 1)), size / PAGE, 0);
	}
	return unused;
}

static void *fill(void *page)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof(message)) == sizeof(message)) {
		struct uffdio_copy copy = {
			.dst = message.arg.pagefault.address & ~(size - 1),
			.src = (uintptr_t)page, .len = size,
		};

		told++;
		if (ioctl(uffd, UFFDIO_COPY, &copy))
			err(1, "UFFDIO_COPY");
	}
	return page;
}

static void monitored_by(void *(*monitor)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, monitor, argument))
		errx(1, "pthread_create");
	/* Its stack and its first read fault before the account begins. */
	usleep(100000);
}

static void watch(uint64_t features, uint64_t mode)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register registration = {
		.range = {.start = (uintptr_t)memory, .len = count * size}, .mode = mode,
	};

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &registration))
		err(1, "userfaultfd");
}

static void guard(int on)
{
	write_protect(memory, count * size / PAGE, on);
}

static void uffd_protected(void)
{
	watch(UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFDIO_REGISTER_MODE_WP);
	guard(1);
	monitored_by(lift, NULL);
}

static void uffd_lifted(void)
{
	watch(UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFDIO_REGISTER_MODE_WP);
	guard(1);
	guard(0);
}

/* Nobody is asked: the kernel lifts it by itself, and has noted the write. */
static void tracked(void)
{
	watch(WP_ASYNC | WP_UNPOPULATED, UFFDIO_REGISTER_MODE_WP);
	guard(1);
}

/* None is there yet: see main(). */
static void missing(void)
{
	void *page = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	watch(0, UFFDIO_REGISTER_MODE_MISSING);
	monitored_by(fill, page);
}

static void *write_them(void *barrier)
{
	for (size_t index = 0; index < count; index++) {
		pthread_barrier_wait(barrier);
		*(volatile char *)(memory + index * size) = 3;
	}
	return NULL;
}

/* Two threads write to each page at once: one of them makes it writable. */
static void by_two(void)
{
	pthread_barrier_t barrier;
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	if (pthread_create(&thread, NULL, write_them, &barrier))
		errx(1, "pthread_create");
	write_them(&barrier);
	pthread_join(thread, NULL);
}

static void nothing(void)
{
}

static const struct mode {
	const char *name;
	void (*protects)(void);
	int reads_first, writes_all, two, untouched;
} modes[] = {
	{.name = "toggled", .protects = toggled},
	{.name = "none", .protects = none},
	{.name = "executable", .protects = executable},
	{.name = "child", .protects = child},
	{.name = "child-all", .protects = child, .writes_all = 1},
	{.name = "gone", .protects = gone},
	{.name = "gone-two", .protects = gone, .two = 1},
	{.name = "zero", .protects = nothing, .reads_first = 1},
	{.name = "soft-dirty", .protects = soft_dirty},
	{.name = "uffd", .protects = uffd_protected},
	{.name = "uffd-lifted", .protects = uffd_lifted},
	{.name = "tracked", .protects = tracked},
	{.name = "missing", .protects = missing, .untouched = 1},
};

int main(int argc, char **argv)
{
	const struct mode *mode = modes, *end = modes + sizeof(modes) / sizeof(*modes);
	struct account before;

	if (argc < 3)
		errx(2, "sized SIZE MODE [COUNT]");
	while (mode < end && strcmp(mode->name, argv[2]))
		mode++;
	if (mode == end)
		errx(2, "no such mode: %s", argv[2]);
	count = argc > 3 ? atol(argv[3]) : 7;
	if (!mode->two)
		stay_on_this_cpu();
	account_now();
	map(argv[1]);
	if (mode->reads_first)
		for (size_t index = 0; index < count; index++)
			(void)*(volatile char *)(memory + index * size);
	else if (!mode->untouched)
		write_first_byte_of_each(1);
	settle();
	mode->protects();
	account_now();	/* write-faults on what the account itself uses */
	look_at(memory, count * size / PAGE);
	begin(&before);
	if (mode->two)
		by_two();
	else if (mode->writes_all)
		write_each(memory, count * size / PAGE, 2);
	else
		write_first_byte_of_each(2);
	report(memory, count * size / PAGE, account_since(before));
	return 0;
}
