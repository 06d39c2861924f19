/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One thread toggles a mapping, two write to it all the while. How often they fault is
 * chance; what counts them must agree all the same. A write while the pages are read-only
 * is a SIGSEGV, and tried again.
 */
#include "workload.h"
#include <pthread.h>

#define TOGGLES 50

static char *memory;
static size_t pages;
static volatile int done;
static pthread_barrier_t all_three;

static void try_again(int signal)
{
	(void)signal;
	sched_yield();
}

static void *writer(void *unused)
{
	raise(SIGSEGV);	/* once before it counts: this stack, the handler's code */
	pthread_barrier_wait(&all_three);
	while (!done)
		write_each(memory, pages, 2);
	pthread_barrier_wait(&all_three);
	pthread_barrier_wait(&all_three);
	return unused;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = try_again};
	cpu_set_t anywhere;
	struct account before;
	pthread_t threads[2];

	pages = pages_wanted(argc, argv);
	memory = map_anonymous(pages);
	write_each(memory, pages, 1);
	settle();
	CPU_ZERO(&anywhere);
	for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++)
		CPU_SET(cpu, &anywhere);
	if (sched_setaffinity(0, sizeof(anywhere), &anywhere))
		err(1, "sched_setaffinity");
	sigaction(SIGSEGV, &action, NULL);
	pthread_barrier_init(&all_three, NULL, 3);
	for (int index = 0; index < 2; index++)
		if (pthread_create(&threads[index], NULL, writer, NULL))
			errx(1, "pthread_create");
	pthread_barrier_wait(&all_three);
	begin(&before);
	for (int count = 0; count < TOGGLES; count++) {
		toggle(memory, pages);
		sched_yield();
	}
	done = 1;
	pthread_barrier_wait(&all_three);
	report(memory, pages, account_since(before));
	pthread_barrier_wait(&all_three);
	for (int index = 0; index < 2; index++)
		pthread_join(threads[index], NULL);
	return 0;
}
