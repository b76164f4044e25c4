// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What an adapter and a device process do, so that the drivers above get somewhere: requests are
 * answered and buffers given back. With lies among it.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define QUEUES 4
#define SND_OK 0x8000 /* VIRTIO_SND_S_OK, the start of every answer to virtio_snd */

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

/* One queue in one mapping of the whole file. */
struct ring {
	struct fuzzer *fuzzer;
	struct mapping memory;
	struct virtio_loopback_queue where;
};

static bool inside(struct ring *ring, uint64_t address, uint64_t length)
{
	return address < ring->memory.length && length <= ring->memory.length - address;
}

static void answer_buffer(struct ring *ring, uint16_t head)
{
	struct descriptor *table = (void *)(ring->memory.start + ring->where.desc_addr);

	for (unsigned int i = 0, at = head; i < ring->where.size; i++, at = table[at].next % ring->where.size) {
		struct descriptor d = table[at];
		uint32_t ok = SND_OK;

		if (d.flags & 2 && inside(ring, d.address, d.length)) {
			memset(ring->memory.start + d.address, 0, d.length);
			if (fuzz_one_in(ring->fuzzer, 8))
				fuzz_fill(ring->fuzzer, ring->memory.start + d.address, d.length);
			memcpy(ring->memory.start + d.address, &ok, d.length < 4 ? d.length : 4);
		}
		if (!(d.flags & 1))
			return;
	}
}

/* Gives back what is available and has not been given back, as an honest device would. */
static void serve_ring(void *argument)
{
	struct ring *ring = argument;
	volatile uint16_t *available = (void *)(ring->memory.start + ring->where.driver_addr);
	volatile uint16_t *used = (void *)(ring->memory.start + ring->where.device_addr);
	unsigned int mask = ring->where.size - 1;

	for (unsigned int i = 0; i < ring->where.size && used[1] != available[1]; i++) {
		uint16_t head = available[2 + (used[1] & mask)] & mask;
		volatile uint32_t *entry = (volatile uint32_t *)(used + 2) + 2 * (used[1] & mask);

		answer_buffer(ring, head);
		entry[0] = head;
		entry[1] = fuzz_one_in(ring->fuzzer, 16) ? fuzz_random(ring->fuzzer) : 4;
		__atomic_store_n(used + 1, used[1] + 1, __ATOMIC_RELEASE);
		count(SERVED);
	}
}

/* Writes anything where the device may write, and where it may not. */
static void lie_in_ring(void *argument)
{
	struct ring *ring = argument;
	uint64_t places[] = { ring->where.desc_addr, ring->where.driver_addr, ring->where.device_addr };
	uint64_t at = places[fuzz_below(ring->fuzzer, 3)] + fuzz_below(ring->fuzzer, 16);

	if (!inside(ring, at, 8))
		return;
	fuzz_fill(ring->fuzzer, ring->memory.start + at, 1 + fuzz_below(ring->fuzzer, 8));
}

/* Maps the memory of an attached device and does `what` in one of its queues. */
static void with_ring(struct fuzzer *fuzzer, int control, unsigned int index, void (*what)(void *))
{
	struct ring ring = { .fuzzer = fuzzer, .where = { .index = index } };
	int memory;

	if (ioctl(control, VIRTIO_LOOPBACK_GET_QUEUE, &ring.where) < 0 || !ring.where.size)
		return;
	memory = ioctl(control, VIRTIO_LOOPBACK_GET_MEMORY);
	if (memory < 0)
		return;
	ring.memory.length = lseek(memory, 0, SEEK_END);
	ring.memory.start = mmap(NULL, ring.memory.length, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	close(memory);
	if (ring.memory.start == MAP_FAILED)
		return;
	if (inside(&ring, ring.where.device_addr, 4096))
		guarded(what, &ring);
	munmap(ring.memory.start, ring.memory.length);
}

static void start(struct fuzzer *fuzzer, int control)
{
	for (int i = 0; i < QUEUES; i++) {
		struct virtio_loopback_eventfds args = {
			.index = i,
			.kick = object_get(fuzzer, EVENT),
			.call = object_get(fuzzer, EVENT),
		};

		ioctl(control, VIRTIO_LOOPBACK_SET_EVENTFDS, &args);
	}
	count(STARTED);
}

static void answer_request(struct fuzzer *fuzzer, int control)
{
	struct virtio_loopback_request request;
	struct virtio_loopback_answer answer = { 0 };

	if (read(control, &request, sizeof(request)) != sizeof(request))
		return;
	if (request.type == VIRTIO_LOOPBACK_REQUEST_START)
		start(fuzzer, control);
	answer.id = request.id;
	answer.status = fuzz_one_in(fuzzer, 12) ? -EIO : 0;
	if (!fuzz_one_in(fuzzer, 20) && ioctl(control, VIRTIO_LOOPBACK_ANSWER, &answer) == 0)
		count(ANSWERED);
}

void device_serve(struct fuzzer *fuzzer)
{
	int control = object_get(fuzzer, CONTROL);

	count(CALLS);
	if (control < 0)
		return;
	answer_request(fuzzer, control);
	for (unsigned int i = 0; i < QUEUES; i++)
		with_ring(fuzzer, control, i, serve_ring);
	device_interrupt(fuzzer);
}

void device_lie(struct fuzzer *fuzzer)
{
	count(CALLS);
	with_ring(fuzzer, object_get(fuzzer, CONTROL), fuzz_below(fuzzer, QUEUES), lie_in_ring);
	device_interrupt(fuzzer);
}

void device_interrupt(struct fuzzer *fuzzer)
{
	unsigned int times = fuzz_one_in(fuzzer, 50) ? 500 : 4;

	for (unsigned int i = 0; i < times; i++)
		eventfd_write(object_get(fuzzer, EVENT), 1);
}
