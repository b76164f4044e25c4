// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* The device side of a split virtqueue, honest or not. */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define NEXT 1
#define WRITABLE 2
#define INDIRECT 4

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

bool memory_map(int control, struct mapping *memory)
{
	int file = ioctl(control, VIRTIO_LOOPBACK_GET_MEMORY);

	if (file < 0)
		return false;
	memory->length = lseek(file, 0, SEEK_END);
	memory->start = mmap(NULL, memory->length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	return memory->start != MAP_FAILED;
}

static bool inside(struct ring *ring, uint64_t address, uint64_t length)
{
	return address < ring->memory.length && length <= ring->memory.length - address;
}

/* Adds what a table says from descriptor `at` on. */
static void walk(struct ring *ring, struct message *message, struct descriptor *table, unsigned int size, uint16_t at)
{
	for (unsigned int i = 0; i < size && message->count < PARTS; i++) {
		struct descriptor d = table[at % size];

		if (inside(ring, d.address, d.length) && d.length) {
			uint8_t *start = ring->memory.start + d.address;

			if (d.flags & INDIRECT && table == (void *)(ring->memory.start + ring->where.desc_addr) &&
			    d.length >= sizeof(d))
				walk(ring, message, (void *)start, d.length / sizeof(d), 0);
			else
				message->parts[message->count++] = (struct part){ start, d.length, d.flags & WRITABLE };
		}
		if (!(d.flags & NEXT))
			return;
		at = d.next;
	}
}

/* Returns how many bytes have been written. */
static uint32_t answer_buffer(struct ring *ring, uint16_t head)
{
	struct message message = { .count = 0 };
	uint32_t written = 0;

	walk(ring, &message, (void *)(ring->memory.start + ring->where.desc_addr), ring->where.size, head);
	if (message.count)
		sound_answer(ring->fuzzer, ring->where.index, &message);
	for (unsigned int i = 0; i < message.count; i++)
		if (message.parts[i].writable)
			written += message.parts[i].length;
	return written;
}

struct service {
	struct ring *ring;
	volatile unsigned int served;
};

static void serve(void *argument)
{
	struct service *service = argument;
	struct ring *ring = service->ring;
	volatile uint16_t *available = (void *)(ring->memory.start + ring->where.driver_addr);
	volatile uint16_t *used = (void *)(ring->memory.start + ring->where.device_addr);
	unsigned int mask = ring->where.size - 1;

	while (service->served < ring->where.size && used[1] != available[1]) {
		uint16_t head = available[2 + (used[1] & mask)] & mask;
		volatile uint32_t *entry = (volatile uint32_t *)(used + 2) + 2 * (used[1] & mask);

		entry[1] = answer_buffer(ring, head);
		if (fuzz_one_in(ring->fuzzer, 2 * ring->fuzzer->honesty))
			entry[1] = fuzz_random(ring->fuzzer);
		entry[0] = head;
		__atomic_store_n(used + 1, used[1] + 1, __ATOMIC_RELEASE);
		service->served++;
		count(SERVED);
	}
}

unsigned int ring_serve(struct ring *ring)
{
	struct service service = { .ring = ring };

	if (inside(ring, ring->where.device_addr, 4096))
		guarded(serve, &service);
	return service.served;
}

static void lie(void *argument)
{
	struct ring *ring = argument;
	uint64_t places[] = { ring->where.desc_addr, ring->where.driver_addr, ring->where.device_addr };
	uint64_t at = places[fuzz_below(ring->fuzzer, 3)] + fuzz_below(ring->fuzzer, 16);

	if (inside(ring, at, 8))
		fuzz_fill(ring->fuzzer, ring->memory.start + at, 1 + fuzz_below(ring->fuzzer, 8));
}

/* Writes anything where the device may write, and where it may not. */
void ring_lie(struct ring *ring)
{
	guarded(lie, ring);
}
