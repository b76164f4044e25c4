// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz-control --seed N --threads N (--calls N | --seconds N) [--inject]
 *
 * --calls is for each thread: with one thread the run is the same every time. Of five threads one
 * serves sound cards and two use them; the others call the control file. Prints what was
 * counted as one line of JSON. The kernel's log is the judge, not this program.
 * --inject: allocations and copies may fail, as set up in debugfs, for these threads alone. Where the
 * frame of a signal cannot be copied, the kernel ends the process: then another one goes on.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define LONGEST_DELAY 300 /* seconds */

static const char *const names[COUNTS] = {
	"calls", "successes", "created", "attached", "destroyed", "started", "answered", "mapped", "faults", "served",
	"opened", "parameters", "played", "captured", "in_place", "elements", "metadata",
};
static atomic_ullong *counts; /* of all processes */
static unsigned long long seed = 1, threads = 4, calls, seconds;
static time_t end;
static bool inject;

void count(enum count what)
{
	atomic_fetch_add_explicit(&counts[what], 1, memory_order_relaxed);
}

uint64_t counted(enum count what)
{
	return atomic_load(&counts[what]);
}

/* The kernel asks each task whether its calls may be made to fail. */
static void inject_failures(void)
{
	int fd = open("/proc/thread-self/make-it-fail", O_WRONLY);

	if (fd < 0 || write(fd, "1", 1) != 1) {
		perror("fuzz-control: this kernel injects no failures: /proc/thread-self/make-it-fail");
		exit(1);
	}
	close(fd);
}

static void step(struct fuzzer *fuzzer)
{
	switch (fuzz_below(fuzzer, 16)) {
	case 0:
		control_open(fuzzer);
		break;
	case 1:
		control_create(fuzzer);
		break;
	case 2:
		if (fuzz_one_in(fuzzer, 3))
			object_close(fuzzer);
		break;
	case 3:
	case 4:
		memory_call(fuzzer);
		break;
	case 5:
	case 6:
		memory_touch(fuzzer);
		break;
	case 7:
	case 8:
		device_serve(fuzzer);
		break;
	case 9:
		device_lie(fuzzer);
		break;
	default:
		control_call(fuzzer);
	}
}

/* Until the time is up; on a slow machine until there was one of everything, but not for ever. */
static bool goes_on(void)
{
	time_t now = time(NULL);

	for (int i = 0; i < COUNTS && now >= end && now < end + LONGEST_DELAY; i++)
		if (!counted(i))
			return true;
	return now < end;
}

static void *run(void *argument)
{
	static void (*const roles[])(struct fuzzer *) = { step, application_call, card_live, application_call, step };
	void (*const role)(struct fuzzer *) = roles[(uintptr_t)argument % (sizeof(roles) / sizeof(*roles))];
	struct fuzzer fuzzer = {
		.random = (seed * 1000003 + (uintptr_t)argument + 1) * 0x9E3779B97F4A7C15ULL,
		.honesty = 8,
	};

	if (inject)
		inject_failures();
	for (unsigned long long i = 0; calls ? i < calls : goes_on(); i++)
		role(&fuzzer);
	return NULL;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },    { "threads", required_argument, NULL, 't' },
		{ "calls", required_argument, NULL, 'c' },   { "seconds", required_argument, NULL, 'd' },
		{ "inject", no_argument, NULL, 'i' },	     { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 't': threads = strtoull(optarg, NULL, 0); break;
		case 'c': calls = strtoull(optarg, NULL, 0); break;
		case 'd': seconds = strtoull(optarg, NULL, 0); break;
		case 'i': inject = true; break;
		default: exit(2);
		}
	}
	if (!threads || threads > 64 || !(calls || seconds)) {
		fprintf(stderr, "usage: fuzz-control --seed N --threads 1..64 (--calls N | --seconds N) [--inject]\n");
		exit(2);
	}
}

static int fuzz(void)
{
	pthread_t ids[64];

	guard_install();
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, run, (void *)i))
			return 1;
	for (uintptr_t i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	/* What nobody serves any more is closed sooner when its device goes. */
	control_destroy_all();
	objects_close_all();
	return 0;
}

/* The status of a process that fuzzes, as wait() has it. */
static int fuzz_in_child(void)
{
	int status = 0;
	pid_t child = fork();

	if (!child)
		_exit(fuzz());
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("fuzz-control");
		exit(1);
	}
	return status;
}

int main(int argc, char **argv)
{
	int status, restarts = -1;

	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	counts = mmap(NULL, sizeof(*counts) * COUNTS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED) {
		perror("fuzz-control");
		return 1;
	}
	end = time(NULL) + seconds;
	do {
		restarts++;
		status = fuzz_in_child();
		seed += 1000;
	} while (inject && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && time(NULL) < end);
	printf("{\"restarts\": %d", restarts);
	for (int i = 0; i < COUNTS; i++)
		printf(", \"%s\": %llu", names[i], (unsigned long long)counted(i));
	printf("}\n");
	if (inject && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
		return 0;
	if (WIFSIGNALED(status))
		fprintf(stderr, "fuzz-control: ended by signal %d\n", WTERMSIG(status));
	return status ? 1 : 0;
}
