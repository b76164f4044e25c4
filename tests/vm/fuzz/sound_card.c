// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * The life of a sound card: somebody creates it, or takes it over, and serves it for a while, well
 * or badly; then he destroys it, or is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define QUEUES 4
#define CTLS (1ULL << 0) /* of virtio_snd */
#define INDIRECT_DESC (1ULL << 28)
#define EVENT_IDX (1ULL << 29)
#define TURNS 1500
#define LONGEST_STALL 1500 /* turns: longer than virtio_snd waits */

struct card {
	struct fuzzer *fuzzer;
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	int control, kick, calls[QUEUES];
	struct mapping memory;
	unsigned int stalls; /* one turn in so many begins one */
	unsigned int stalled; /* turns that it goes on for */
};

static bool create(struct card *card)
{
	struct fuzzer *fuzzer = card->fuzzer;
	uint8_t config[16];
	uint32_t sizes[QUEUES];
	struct virtio_loopback_create args = {
		.device_id = 25,
		.features = CTLS | (fuzz_below(fuzzer, 4) * INDIRECT_DESC),
		.flags = fuzz_one_in(fuzzer, 8) ? 0 : VIRTIO_LOOPBACK_F_ZERO_COPY,
		.queue_count = QUEUES,
		.config_size = sizeof(config),
		.config = (uintptr_t)config,
		.queue_sizes = (uintptr_t)sizes,
	};

	for (int i = 0; i < QUEUES; i++)
		sizes[i] = 4U << fuzz_below(fuzzer, 7);
	if (args.flags && fuzz_one_in(fuzzer, 2)) /* a few periods, so that there is not enough at times */
		args.zero_copy_size = 4096 * (1 + fuzz_below(fuzzer, 64));
	sound_config(fuzzer, config);
	memcpy(args.name, card->name, sizeof(args.name));
	count(CALLS);
	if (ioctl(card->control, VIRTIO_LOOPBACK_CREATE, &args) < 0)
		return false;
	count(CREATED);
	return true;
}

static bool take_over(struct card *card)
{
	struct virtio_loopback_name args;

	memcpy(args.name, card->name, sizeof(args.name));
	count(CALLS);
	if (ioctl(card->control, VIRTIO_LOOPBACK_ATTACH, &args) < 0)
		return false;
	count(ATTACHED);
	return true;
}

static void destroy(struct card *card)
{
	struct virtio_loopback_name args;

	memcpy(args.name, card->name, sizeof(args.name));
	if (ioctl(card->control, VIRTIO_LOOPBACK_DESTROY, &args) == 0)
		count(DESTROYED);
}

static void start(struct card *card)
{
	for (int i = 0; i < QUEUES; i++) {
		struct virtio_loopback_eventfds args = { .index = i, .kick = card->kick, .call = card->calls[i] };

		ioctl(card->control, VIRTIO_LOOPBACK_SET_EVENTFDS, &args);
	}
	count(STARTED);
}

static void answer_request(struct card *card)
{
	struct virtio_loopback_request request;
	struct virtio_loopback_answer answer = { 0 };

	if (read(card->control, &request, sizeof(request)) != sizeof(request))
		return;
	if (request.type == VIRTIO_LOOPBACK_REQUEST_START)
		start(card);
	answer.id = request.id;
	answer.status = fuzz_one_in(card->fuzzer, 2 * card->fuzzer->honesty) ? -EIO : 0;
	if (ioctl(card->control, VIRTIO_LOOPBACK_ANSWER, &answer) == 0)
		count(ANSWERED);
}

/* Pages of the card's buffers in the memory file, as sysfs counts them. */
static void count_in_place(struct card *card)
{
	char path[128], pages[16] = "";
	int file;

	snprintf(path, sizeof(path), "/sys/class/virtio-loopback/%s/zero_copy_pages", card->name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	if (read(file, pages, sizeof(pages) - 1) > 0 && atoi(pages))
		count(IN_PLACE);
	close(file);
}

/* Events are held back most of the time. */
static void serve(struct card *card)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		struct ring ring = { .fuzzer = card->fuzzer, .memory = card->memory, .where = { .index = i } };

		if (i == 1 && !fuzz_one_in(card->fuzzer, 100))
			continue;
		if (ioctl(card->control, VIRTIO_LOOPBACK_GET_QUEUE, &ring.where) < 0 || !ring.where.size)
			return;
		if (!ring_serve(&ring))
			continue;
		if (i > 1)
			count_in_place(card);
		eventfd_write(card->calls[i], 1);
	}
}

static void turn(struct card *card)
{
	struct pollfd files[] = { { card->control, POLLIN, 0 }, { card->kick, POLLIN, 0 } };
	eventfd_t kicks;

	poll(files, 2, 1);
	eventfd_read(card->kick, &kicks);
	answer_request(card);
	if (!card->stalled && fuzz_one_in(card->fuzzer, card->stalls))
		card->stalled = fuzz_below(card->fuzzer, LONGEST_STALL);
	if (card->stalled)
		card->stalled--;
	else
		serve(card);
}

/* Others call, map and serve it as well from now on. */
static void share(struct card *card)
{
	object_keep(card->fuzzer, CONTROL, dup(card->control));
	object_keep(card->fuzzer, MEMORY, ioctl(card->control, VIRTIO_LOOPBACK_GET_MEMORY));
	for (int i = 0; i < QUEUES; i++)
		object_keep(card->fuzzer, EVENT, dup(card->calls[i]));
}

static void live(struct card *card)
{
	unsigned int turns = fuzz_below(card->fuzzer, TURNS), shared = 0;

	if (!memory_map(card->control, &card->memory))
		return;
	if (fuzz_one_in(card->fuzzer, 3))
		shared = fuzz_below(card->fuzzer, TURNS);
	for (unsigned int i = 0; i < turns; i++) {
		if (i && i == shared)
			share(card);
		turn(card);
	}
	munmap(card->memory.start, card->memory.length);
}

void card_live(struct fuzzer *fuzzer)
{
	static const unsigned int characters[] = { 16, 256, 4096, 1 << 20 };
	struct card card = {
		.fuzzer = fuzzer,
		.control = open("/dev/virtio-loopback", O_RDWR | O_CLOEXEC | O_NONBLOCK),
		.kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.stalls = characters[fuzz_below(fuzzer, 4)],
	};

	fuzzer->honesty = characters[fuzz_below(fuzzer, 4)];
	name_of(NAMES - 1 - fuzz_below(fuzzer, CARDS), card.name);
	for (int i = 0; i < QUEUES; i++)
		card.calls[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (create(&card) || take_over(&card))
		live(&card);
	if (fuzz_one_in(fuzzer, 2))
		destroy(&card);
	close(card.control);
	close(card.kick);
	for (int i = 0; i < QUEUES; i++)
		close(card.calls[i]);
}
