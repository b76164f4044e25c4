// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What an adapter and a device process do, so that the drivers above get somewhere: requests are
 * answered and buffers given back. With lies among it.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define QUEUES 4

/* Maps the memory of an attached device, and serves one of its queues or lies in it. */
static void with_ring(struct fuzzer *fuzzer, int control, unsigned int index, bool honest)
{
	struct ring ring = { .fuzzer = fuzzer, .where = { .index = index } };

	if (ioctl(control, VIRTIO_LOOPBACK_GET_QUEUE, &ring.where) < 0 || !ring.where.size)
		return;
	if (!memory_map(control, &ring.memory))
		return;
	if (honest)
		ring_serve(&ring);
	else
		ring_lie(&ring);
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
		with_ring(fuzzer, control, i, true);
	device_interrupt(fuzzer);
}

void device_lie(struct fuzzer *fuzzer)
{
	count(CALLS);
	with_ring(fuzzer, object_get(fuzzer, CONTROL), fuzz_below(fuzzer, QUEUES), false);
	device_interrupt(fuzzer);
}

void device_interrupt(struct fuzzer *fuzzer)
{
	unsigned int times = fuzz_one_in(fuzzer, 50) ? 500 : 4;

	for (unsigned int i = 0; i < times; i++)
		eventfd_write(object_get(fuzzer, EVENT), 1);
}
