/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A fuzzer of /dev/virtio-loopback, and of the sound cards that come of it: threads that share files
 * and mappings, each with its own sequence of random calls, which follows from the seed.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_loopback.h>

#define KEPT 24 /* objects of each kind that all threads share */
#define NAMES 12 /* of devices */
#define CARDS 4 /* the last of them: cards that somebody serves, and that others seldom name */

/* What one thread knows. */
struct fuzzer {
	uint64_t random;
	unsigned int honesty; /* as a device: one answer in so many is a lie */
};

struct mapping {
	uint8_t *start;
	size_t length;
};

enum kind { CONTROL, MEMORY, EVENT, PCM, MIXER, OTHER, KINDS };

/* What is counted, and what a run is judged by. */
enum count {
	CALLS, SUCCESSES, CREATED, ATTACHED, DESTROYED, STARTED, ANSWERED, MAPPED, FAULTS, SERVED,
	/* of cards */
	OPENED, PARAMETERS, PLAYED, CAPTURED, IN_PLACE, ELEMENTS, METADATA, COUNTS
};

void count(enum count what);
uint64_t counted(enum count what);

/* random.c: from the thread's own sequence */
uint64_t fuzz_random(struct fuzzer *fuzzer);
uint64_t fuzz_below(struct fuzzer *fuzzer, uint64_t limit);
bool fuzz_one_in(struct fuzzer *fuzzer, uint64_t n);
void fuzz_fill(struct fuzzer *fuzzer, void *data, size_t length);
/* Mostly small, sometimes at the edge of something, sometimes anything. */
uint64_t fuzz_number(struct fuzzer *fuzzer);
/* A readable address most of the time. */
void *fuzz_pointer(struct fuzzer *fuzzer, void *good);
void fuzz_name(struct fuzzer *fuzzer, char name[VIRTIO_LOOPBACK_NAME_SIZE]);
void name_of(unsigned int number, char name[VIRTIO_LOOPBACK_NAME_SIZE]);

/* objects.c: files and mappings, which any thread may close or replace at any time */
int object_get(struct fuzzer *fuzzer, enum kind kind);
int object_get_any(struct fuzzer *fuzzer);
void object_keep(struct fuzzer *fuzzer, enum kind kind, int fd);
void object_close(struct fuzzer *fuzzer);
void object_forget(enum kind kind, int fd);
struct mapping mapping_get(struct fuzzer *fuzzer);
void mapping_keep(struct fuzzer *fuzzer, struct mapping mapping);
void objects_close_all(void);
/* Runs `body`; a signal for an access to memory ends it. Returns whether it was not ended. */
bool guarded(void (*body)(void *), void *argument);
void guard_install(void);

/* control_calls.c, memory_calls.c, device_side.c, application_calls.c: one random call each */
void control_open(struct fuzzer *fuzzer);
void control_call(struct fuzzer *fuzzer);
void control_create(struct fuzzer *fuzzer);
void control_destroy_all(void);
void memory_call(struct fuzzer *fuzzer);
void memory_touch(struct fuzzer *fuzzer);
void device_serve(struct fuzzer *fuzzer);
void device_lie(struct fuzzer *fuzzer);
void device_interrupt(struct fuzzer *fuzzer);
void application_call(struct fuzzer *fuzzer);

/* rings.c: one queue in a mapping of the whole memory file */
struct ring {
	struct fuzzer *fuzzer;
	struct mapping memory;
	struct virtio_loopback_queue where;
};

/* Maps the memory file of an attached device. */
bool memory_map(int control, struct mapping *memory);
/* Gives back what is available and has not been given back; returns how many that were. */
unsigned int ring_serve(struct ring *ring);
void ring_lie(struct ring *ring);

/* sound_answers.c */
#define PARTS 96

struct part {
	uint8_t *start;
	uint32_t length;
	bool writable;
};

struct message {
	struct part parts[PARTS];
	unsigned int count;
};

void sound_config(struct fuzzer *fuzzer, uint8_t *config);
/* Writes what a sound device answers to a message of queue `index`. */
void sound_answer(struct fuzzer *fuzzer, unsigned int index, const struct message *message);

/* sound_card.c: the life of a card */
void card_live(struct fuzzer *fuzzer);

#endif
