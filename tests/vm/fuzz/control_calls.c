// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* Calls of the control file, with arguments that are mostly, but not always, what it wants. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fuzz.h"

#define DEVICE "/dev/virtio-loopback"
#define CTRL_VQ (1ULL << 17) /* virtio_net spins for its answers */

static int call(struct fuzzer *fuzzer, int fd, unsigned long number, void *argument)
{
	int result = ioctl(fd, number, fuzz_pointer(fuzzer, argument));

	count(CALLS);
	if (result >= 0)
		count(SUCCESSES);
	return result;
}

void control_open(struct fuzzer *fuzzer)
{
	int flags = fuzz_one_in(fuzzer, 16) ? O_RDONLY : O_RDWR;

	object_keep(fuzzer, CONTROL, open(DEVICE, flags | O_CLOEXEC | O_NONBLOCK));
}

static void choose_device(struct fuzzer *fuzzer, struct virtio_loopback_create *args, uint8_t *config)
{
	static const uint32_t ids[] = { 25, 25, 25, 1, 4, 18, 63 };

	args->device_id = ids[fuzz_below(fuzzer, sizeof(ids) / sizeof(*ids))];
	args->features = fuzz_one_in(fuzzer, 2) ? 0 : fuzz_random(fuzzer) & ~CTRL_VQ;
	args->flags = fuzz_below(fuzzer, 2);
	args->queue_count = args->device_id == 25 ? 4 : args->device_id == 4 ? 1 : 2;
	args->config_size = fuzz_below(fuzzer, 300);
	if (args->device_id == 25)
		sound_config(fuzzer, config);
}

void control_create(struct fuzzer *fuzzer)
{
	struct virtio_loopback_create args = { 0 };
	uint32_t sizes[VIRTIO_LOOPBACK_MAX_QUEUES];
	uint8_t config[VIRTIO_LOOPBACK_MAX_CONFIG];

	fuzz_fill(fuzzer, config, sizeof(config));
	for (int i = 0; i < VIRTIO_LOOPBACK_MAX_QUEUES; i++)
		sizes[i] = fuzz_one_in(fuzzer, 200) ? fuzz_number(fuzzer) : 1U << fuzz_below(fuzzer, 11);
	fuzz_name(fuzzer, args.name);
	choose_device(fuzzer, &args, config);
	args.bounce_size = fuzz_one_in(fuzzer, 2) ? 0 : fuzz_below(fuzzer, 1 << 18);
	if (args.flags & VIRTIO_LOOPBACK_F_ZERO_COPY)
		args.zero_copy_size = fuzz_one_in(fuzzer, 2) ? 0 : fuzz_below(fuzzer, 1 << 20);
	args.config = (uintptr_t)fuzz_pointer(fuzzer, config);
	args.queue_sizes = (uintptr_t)fuzz_pointer(fuzzer, sizes);
	if (fuzz_one_in(fuzzer, 24)) {
		uint8_t *byte = (uint8_t *)&args + fuzz_below(fuzzer, sizeof(args));

		*byte = fuzz_random(fuzzer);
		if (args.device_id == 3) /* virtio_console spins for its answers */
			return;
	}
	if (call(fuzzer, object_get(fuzzer, CONTROL), VIRTIO_LOOPBACK_CREATE, &args) == 0)
		count(CREATED);
}

static void name_call(struct fuzzer *fuzzer, unsigned long number, enum count success)
{
	struct virtio_loopback_name args;

	fuzz_name(fuzzer, args.name);
	if (call(fuzzer, object_get(fuzzer, CONTROL), number, &args) == 0)
		count(success);
}

static void list(struct fuzzer *fuzzer)
{
	struct virtio_loopback_device devices[NAMES];
	struct virtio_loopback_list args = {
		.devices = (uintptr_t)fuzz_pointer(fuzzer, devices),
		.capacity = fuzz_below(fuzzer, NAMES + 1),
	};

	call(fuzzer, object_get(fuzzer, CONTROL), VIRTIO_LOOPBACK_LIST, &args);
}

static void set_eventfds(struct fuzzer *fuzzer)
{
	struct virtio_loopback_eventfds args = { .index = fuzz_below(fuzzer, 5) };

	args.kick = fuzz_one_in(fuzzer, 8) ? object_get_any(fuzzer) : object_get(fuzzer, EVENT);
	args.call = fuzz_one_in(fuzzer, 8) ? object_get_any(fuzzer) : object_get(fuzzer, EVENT);
	args.reserved = fuzz_one_in(fuzzer, 50);
	call(fuzzer, object_get(fuzzer, CONTROL), VIRTIO_LOOPBACK_SET_EVENTFDS, &args);
}

static void set_config(struct fuzzer *fuzzer)
{
	uint8_t data[VIRTIO_LOOPBACK_MAX_CONFIG];
	struct virtio_loopback_config args = {
		.offset = 16 + fuzz_number(fuzzer),
		.length = fuzz_number(fuzzer),
		.flags = fuzz_below(fuzzer, 2),
		.reserved = fuzz_one_in(fuzzer, 50),
		.data = (uintptr_t)fuzz_pointer(fuzzer, data),
	};

	fuzz_fill(fuzzer, data, sizeof(data));
	call(fuzzer, object_get(fuzzer, CONTROL), VIRTIO_LOOPBACK_SET_CONFIG, &args);
}

static void answer(struct fuzzer *fuzzer)
{
	struct virtio_loopback_answer args = {
		.id = 1 + fuzz_below(fuzzer, 64),
		.status = fuzz_one_in(fuzzer, 4) ? (int32_t)fuzz_random(fuzzer) : -(int32_t)fuzz_below(fuzzer, 140),
		.reserved = fuzz_one_in(fuzzer, 50),
	};

	if (call(fuzzer, object_get(fuzzer, CONTROL), VIRTIO_LOOPBACK_ANSWER, &args) == 0)
		count(ANSWERED);
}

static void read_write(struct fuzzer *fuzzer)
{
	uint8_t buffer[512];
	int fd = object_get(fuzzer, CONTROL);
	struct pollfd poll_for = { .fd = fd, .events = POLLIN | POLLOUT };

	count(CALLS);
	switch (fuzz_below(fuzzer, 3)) {
	case 0:
		poll(&poll_for, 1, fuzz_one_in(fuzzer, 8));
		break;
	case 1:
		(void)!read(fd, fuzz_pointer(fuzzer, buffer), fuzz_below(fuzzer, sizeof(buffer)));
		break;
	default:
		(void)!write(fd, fuzz_pointer(fuzzer, buffer), fuzz_below(fuzzer, sizeof(buffer)));
	}
}

static void get_something(struct fuzzer *fuzzer)
{
	uint8_t buffer[512];
	struct virtio_loopback_queue queue = { .index = fuzz_below(fuzzer, 6) };
	int fd = object_get(fuzzer, CONTROL);

	switch (fuzz_below(fuzzer, 5)) {
	case 0:
		call(fuzzer, fd, VIRTIO_LOOPBACK_GET_INFO, buffer);
		break;
	case 1:
		call(fuzzer, fd, VIRTIO_LOOPBACK_GET_DEVICE, buffer);
		break;
	case 2:
		call(fuzzer, fd, VIRTIO_LOOPBACK_GET_QUEUE, &queue);
		break;
	case 3:
		object_keep(fuzzer, EVENT, eventfd(fuzz_below(fuzzer, 3), EFD_NONBLOCK | EFD_CLOEXEC));
		break;
	default:
		object_keep(fuzzer, MEMORY, call(fuzzer, fd, VIRTIO_LOOPBACK_GET_MEMORY, NULL));
	}
}

void control_call(struct fuzzer *fuzzer)
{
	uint8_t garbage[512];

	switch (fuzz_below(fuzzer, 12)) {
	case 0:
		name_call(fuzzer, VIRTIO_LOOPBACK_ATTACH, ATTACHED);
		break;
	case 1:
		if (fuzz_one_in(fuzzer, 4))
			name_call(fuzzer, VIRTIO_LOOPBACK_DESTROY, DESTROYED);
		break;
	case 2:
		list(fuzzer);
		break;
	case 3:
	case 4:
		set_eventfds(fuzzer);
		break;
	case 5:
		set_config(fuzzer);
		break;
	case 6:
		answer(fuzzer);
		break;
	case 7:
		read_write(fuzzer);
		break;
	case 8: /* numbers that nobody has */
		fuzz_fill(fuzzer, garbage, sizeof(garbage));
		ioctl(object_get_any(fuzzer), 0xB90B + fuzz_random(fuzzer) % 0x1000, garbage);
		count(CALLS);
		break;
	default:
		get_something(fuzzer);
	}
}

void control_destroy_all(void)
{
	struct virtio_loopback_name args;
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	for (int i = 0; i < NAMES; i++) {
		name_of(i, args.name);
		ioctl(fd, VIRTIO_LOOPBACK_DESTROY, &args);
	}
	close(fd);
}
