// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* Files and mappings that the threads share, on purpose without any order among them. */
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

static atomic_int files[KINDS][KEPT]; /* number + 1; 0: none */
static _Atomic(uint8_t *) starts[KEPT];
static atomic_size_t lengths[KEPT];

/* One of the kind, or -1. Another thread may close it before it is used. */
int object_get(struct fuzzer *fuzzer, enum kind kind)
{
	return atomic_load(&files[kind][fuzz_below(fuzzer, KEPT)]) - 1;
}

int object_get_any(struct fuzzer *fuzzer)
{
	return object_get(fuzzer, fuzz_below(fuzzer, KINDS));
}

/* Takes a file over; the one in whose place it is kept is closed. */
void object_keep(struct fuzzer *fuzzer, enum kind kind, int fd)
{
	int old;

	if (fd < 0)
		return;
	old = atomic_exchange(&files[kind][fuzz_below(fuzzer, KEPT)], fd + 1);
	if (old)
		close(old - 1);
}

void object_close(struct fuzzer *fuzzer)
{
	int old = atomic_exchange(&files[fuzz_below(fuzzer, KINDS)][fuzz_below(fuzzer, KEPT)], 0);

	if (old)
		close(old - 1);
}

/* Closes it, if it is kept still. */
void object_forget(enum kind kind, int fd)
{
	for (int i = 0; i < KEPT; i++) {
		int kept = fd + 1;

		if (atomic_compare_exchange_strong(&files[kind][i], &kept, 0))
			close(fd);
	}
}

struct mapping mapping_get(struct fuzzer *fuzzer)
{
	size_t i = fuzz_below(fuzzer, KEPT);

	return (struct mapping){ atomic_load(&starts[i]), atomic_load(&lengths[i]) };
}

/* The one in whose place it is kept is unmapped, whoever may be using it. */
void mapping_keep(struct fuzzer *fuzzer, struct mapping mapping)
{
	size_t i = fuzz_below(fuzzer, KEPT);
	size_t old_length = atomic_exchange(&lengths[i], mapping.length);
	uint8_t *old = atomic_exchange(&starts[i], mapping.start);

	if (old && old_length)
		munmap(old, old_length);
}

void objects_close_all(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < KEPT; i++) {
			int old = atomic_exchange(&files[kind][i], 0);

			if (old)
				close(old - 1);
		}
	for (int i = 0; i < KEPT; i++) {
		uint8_t *old = atomic_exchange(&starts[i], NULL);

		if (old)
			munmap(old, atomic_load(&lengths[i]));
	}
}

static _Thread_local sigjmp_buf guard_jump;
static _Thread_local volatile sig_atomic_t guard_on;

static void guard_signal(int number)
{
	if (guard_on)
		siglongjmp(guard_jump, 1);
	signal(number, SIG_DFL);
	raise(number);
}

void guard_install(void)
{
	struct sigaction action = { .sa_handler = guard_signal, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

bool guarded(void (*body)(void *), void *argument)
{
	bool whole = false;

	if (sigsetjmp(guard_jump, 1) == 0) {
		guard_on = 1;
		body(argument);
		whole = true;
	} else {
		count(FAULTS);
	}
	guard_on = 0;
	return whole;
}
