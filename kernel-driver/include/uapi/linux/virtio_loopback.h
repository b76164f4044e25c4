/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * virtio-loopback: virtio devices for this very kernel, served by a process.
 *
 * A loopback device looks like any virtio device to the drivers above it; its
 * queues live in memory that an unprivileged process maps and serves. Two
 * kinds of file make one up:
 *
 *  - the control file, an open /dev/virtio-loopback. The adapter creates a
 *    device with it (VIRTIO_LOOPBACK_CREATE) or takes an existing one over
 *    (VIRTIO_LOOPBACK_ATTACH), reads requests from it and answers them. At most
 *    one control file is attached to a device at any time. Closing it detaches:
 *    the device stays, with its eventfds, and plays on.
 *  - the memory file (VIRTIO_LOOPBACK_GET_MEMORY), for the process that serves
 *    the queues. It can be mapped (MAP_SHARED) and sought, nothing else. An
 *    address in a queue or a descriptor is an offset in this file. What is
 *    there: queues, bounce slots and, where VIRTIO_LOOPBACK_F_ZERO_COPY is
 *    set, the pages of the driver's buffers. Every other offset reads as a
 *    scratch page of the device; offset 0 is never an address. What belongs to
 *    the driver in a queue, the descriptor table and the available ring, can
 *    only be read: an attempt to write there fails (SIGBUS, EFAULT).
 *
 * The life of a device as the adapter sees it:
 *
 *	open, CREATE                  the driver above probes, without waiting
 *	poll, read  -> REQUEST_START  DRIVER_OK: the queues are complete
 *	    GET_QUEUE for each queue, GET_MEMORY, SET_EVENTFDS
 *	    ANSWER
 *	poll, read  -> REQUEST_STOP   the driver has reset the device; the queues
 *	    ANSWER                    are freed once this has been answered
 *	DESTROY
 *
 * A request that is not answered within its time is given up: the device goes
 * on without the answer, and no task waits for user space without a bound.
 * While the system sleeps, and the adapter with it, this time stands still. A
 * device sleeps and wakes up without a request: its queues stay as they are.
 *
 * Rights. Who can open /dev/virtio-loopback may LIST all devices and CREATE
 * some: root, and members of the group virtio-loopback where the project's udev
 * rules are in use. What counts is who opened the control file, so that the
 * rights go with the file. Without CAP_SYS_ADMIN that user
 *
 *  - creates devices of the types in the module's parameter user_types, which
 *    is sound alone by default: a block device, a keyboard or a network card of
 *    one's own making is a way to become root;
 *  - attaches to, and destroys, devices of his own, that is, those that he has
 *    created under the same user id. Another member of the group cannot.
 *
 * Without CAP_SYS_RESOURCE all devices of a user may be max_user_devices, and
 * their bounce_size and zero_copy_size max_user_mib together; a device counts
 * until the last memory file of it has been closed. All users together have
 * max_devices. What CREATE allocates, bounce slots above all, is accounted to
 * the memory cgroup of its caller; what the driver above allocates, the queues
 * (at most 28 KiB each) among it, is not.
 *
 * Types whose drivers take addresses of physical memory from the device
 * (balloon, IOMMU, memory, persistent memory) cannot be created by anybody.
 *
 * Every reserved field must be zero; otherwise the call fails with EINVAL. A
 * call that needs an attached device fails with ENODEV where there is none,
 * and with ESHUTDOWN once the device is being destroyed; but read() and ANSWER
 * go on until the file is closed, for the STOP of the driver that is removed.
 */
#ifndef _UAPI_LINUX_VIRTIO_LOOPBACK_H
#define _UAPI_LINUX_VIRTIO_LOOPBACK_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Raised by every change that an older adapter could not live with. */
#define VIRTIO_LOOPBACK_ABI_VERSION	1

/* A name is [A-Za-z0-9_-]+, ended by NUL. (ALSA card ids end after 15.) */
#define VIRTIO_LOOPBACK_NAME_SIZE	32
#define VIRTIO_LOOPBACK_MAX_QUEUES	64
#define VIRTIO_LOOPBACK_MAX_QUEUE_SIZE	1024
#define VIRTIO_LOOPBACK_MAX_CONFIG	4096
#define VIRTIO_LOOPBACK_MAX_BOUNCE	(64 << 20)
#define VIRTIO_LOOPBACK_MAX_ZERO_COPY	(256 << 20)
/*
 * Of a sound device: jacks, streams, channel maps, controls; each. And names of
 * enumerated controls, all of them together: those beyond have one.
 */
#define VIRTIO_LOOPBACK_MAX_SOUND_ITEMS	1024
/*
 * Entries of each queue of a sound device, whose messages have three parts. Where
 * INDIRECT_DESC is not offered, periods have at most four pages less than any of
 * its queues for sound has entries.
 */
#define VIRTIO_LOOPBACK_MIN_SOUND_QUEUE	4

/*
 * VIRTIO_LOOPBACK_GET_INFO - what this module speaks. Needs no device.
 *
 * @abi_version: VIRTIO_LOOPBACK_ABI_VERSION of the module.
 * @flags: VIRTIO_LOOPBACK_F_* that CREATE understands.
 * @features: the virtio feature bits that the transport can carry. CREATE
 *	drops every other bit.
 */
struct virtio_loopback_info {
	__u32 abi_version;
	__u32 flags;
	__u64 features;
	__u64 reserved[2];
};

/*
 * The device's buffers may be mapped in place, page by page, into the memory
 * file, and stay there for as long as the driver keeps the pages. Only for
 * drivers whose data buffers are whole pages of their own, such as sound.
 */
#define VIRTIO_LOOPBACK_F_ZERO_COPY	(1U << 0)

/*
 * VIRTIO_LOOPBACK_CREATE - create a device and attach this file to it.
 *
 * Returns at once; the driver above probes from the module's own workqueue.
 *
 * @name: unique among the devices; also the name of its folder in sysfs.
 * @device_id: virtio device id, e.g. 25 for sound.
 * @vendor_id: virtio vendor id.
 * @features: features of the virtio device. VERSION_1 and ACCESS_PLATFORM are
 *	always offered to the driver in addition; see GET_INFO.
 * @flags: VIRTIO_LOOPBACK_F_*.
 * @queue_count: 1 to VIRTIO_LOOPBACK_MAX_QUEUES.
 * @config_size: bytes of config space, 0 to VIRTIO_LOOPBACK_MAX_CONFIG.
 * @bounce_size: bytes of bounce slots; 0 for the default. Rounded up to pages.
 * @zero_copy_size: most bytes that are mapped in place at the same time; 0
 *	for the default. Must be 0 without VIRTIO_LOOPBACK_F_ZERO_COPY.
 * @config: address of the initial config space.
 * @queue_sizes: address of queue_count times __u32: the largest size of each
 *	queue, a power of two up to VIRTIO_LOOPBACK_MAX_QUEUE_SIZE; of a sound
 *	device from VIRTIO_LOOPBACK_MIN_SOUND_QUEUE on.
 *
 * Errors: EEXIST (name taken), EBUSY (this file already has a device), EINVAL,
 * E2BIG (a limit above), ENOSPC (as many devices as the module allows), EPERM
 * (a type for privileged users), EDQUOT (as much as one user may have),
 * EOPNOTSUPP (a type that is about physical memory; a console on a machine with
 * one CPU: its driver would wait for the process with that CPU).
 */
struct virtio_loopback_create {
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	__u32 device_id;
	__u32 vendor_id;
	__u64 features;
	__u32 flags;
	__u32 queue_count;
	__u32 config_size;
	__u32 reserved0;
	__u64 bounce_size;
	__u64 zero_copy_size;
	__u64 config;
	__u64 queue_sizes;
	__u64 reserved[2];
};

/*
 * VIRTIO_LOOPBACK_ATTACH, VIRTIO_LOOPBACK_DESTROY - a device by its name.
 *
 * ATTACH takes over a device that no file is attached to; its running queues
 * are announced by a REQUEST_START with VIRTIO_LOOPBACK_START_RESUME. Errors:
 * ENOENT, EPERM (another user's), EBUSY (another file is attached to it, or this
 * file has a device).
 *
 * DESTROY returns at once; the device goes when its last user has closed it.
 * No file needs to be attached. Errors: ENOENT, EPERM (another user's).
 */
struct virtio_loopback_name {
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
};

enum virtio_loopback_state {
	/* No driver has taken the device yet, or the driver has reset it. */
	VIRTIO_LOOPBACK_STATE_IDLE = 0,
	/* DRIVER_OK is set, the START request has not been answered. */
	VIRTIO_LOOPBACK_STATE_STARTING = 1,
	/* The queues are served. */
	VIRTIO_LOOPBACK_STATE_LIVE = 2,
	/* DRIVER_OK is set, but no process serves the queues now. */
	VIRTIO_LOOPBACK_STATE_QUIESCED = 3,
	/* The driver has reset the device; STOP has not been answered. */
	VIRTIO_LOOPBACK_STATE_STOPPING = 4,
	/* DESTROY was called; the last user has not closed it yet. */
	VIRTIO_LOOPBACK_STATE_DYING = 5,
};

/*
 * VIRTIO_LOOPBACK_GET_DEVICE - the attached device.
 *
 * @features: what is offered to the driver.
 * @driver_features: what the driver accepted; valid from the START request on.
 * @memory_size: size of the memory file in bytes.
 * @state: enum virtio_loopback_state.
 * @attached: 1 while a control file is attached.
 * @driver_bound: 1 while a driver of this kernel is bound to the device.
 * @virtio_index: N of the virtio device's name "virtioN"; all ones before it
 *	has been registered.
 * @owner: user id of who created it.
 */
struct virtio_loopback_device {
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	__u32 device_id;
	__u32 vendor_id;
	__u64 features;
	__u64 driver_features;
	__u64 memory_size;
	__u32 flags;
	__u32 queue_count;
	__u32 config_size;
	__u32 state;
	__u32 attached;
	__u32 driver_bound;
	__u32 virtio_index;
	__u32 owner;
	__u64 reserved[2];
};

/*
 * VIRTIO_LOOPBACK_LIST - all devices. Needs no device.
 *
 * @devices: address of room for @capacity times struct virtio_loopback_device.
 * @count: out: how many devices there are; may exceed @capacity, in which case
 *	the rest is left out.
 */
struct virtio_loopback_list {
	__u64 devices;
	__u32 capacity;
	__u32 count;
};

/*
 * VIRTIO_LOOPBACK_GET_QUEUE - where a queue is, between START and STOP.
 *
 * @index: in: the queue.
 * @size: entries; 0 where the driver does not use the queue.
 * @desc_addr, @driver_addr, @device_addr: offsets in the memory file of the
 *	descriptor table, the available ring and the used ring.
 *
 * Errors: EINVAL, ENXIO (the driver has not started the queues).
 */
struct virtio_loopback_queue {
	__u32 index;
	__u32 size;
	__u64 desc_addr;
	__u64 driver_addr;
	__u64 device_addr;
	__u64 reserved[2];
};

/*
 * VIRTIO_LOOPBACK_SET_EVENTFDS - the two eventfds of a queue.
 *
 * They stay when the control file is closed, and until they are replaced, the
 * driver resets the device, or the call eventfd's last user closes it.
 *
 * @index: the queue.
 * @kick: eventfd signalled for every notification by the driver; -1: none. A
 *	notification that came while there was none is signalled at once. So is
 *	an eventfd that replaces another one, whose last notification may not
 *	have been seen.
 * @call: eventfd by which the process interrupts the driver; -1: none. Must
 *	not be the same eventfd as @kick. The driver reads it: nobody else may.
 *	Attaching one interrupts the driver once.
 *
 * Errors: EINVAL, EBADF, ENXIO (the driver has not started the queues).
 */
struct virtio_loopback_eventfds {
	__u32 index;
	__s32 kick;
	__s32 call;
	__u32 reserved;
};

enum virtio_loopback_request_type {
	VIRTIO_LOOPBACK_REQUEST_START = 1,
	VIRTIO_LOOPBACK_REQUEST_STOP = 2,
	VIRTIO_LOOPBACK_REQUEST_CONFIG_WRITE = 3,
};

/* The queues have been in use before: go on at their used index. */
#define VIRTIO_LOOPBACK_START_RESUME	(1U << 0)

#define VIRTIO_LOOPBACK_CONFIG_WRITE_MAX	256

/*
 * What read() returns: exactly one request; EAGAIN (O_NONBLOCK) where there is
 * none. A buffer smaller than a request fails with EINVAL. poll() reports
 * EPOLLIN while there is one, and EPOLLHUP once the device is being destroyed.
 *
 * @id: for the answer; never repeated.
 * @type: enum virtio_loopback_request_type.
 * @flags: START: VIRTIO_LOOPBACK_START_*.
 * @start.features: what the driver accepted.
 * @config_write: @length bytes of @data were written at @offset of the config
 *	space. The module's copy is unchanged: an adapter that accepts the write
 *	does so with VIRTIO_LOOPBACK_SET_CONFIG before it answers.
 */
struct virtio_loopback_request {
	__u64 id;
	__u32 type;
	__u32 flags;
	union {
		struct {
			__u64 features;
		} start;
		struct {
			__u32 offset;
			__u32 length;
			__u8 data[VIRTIO_LOOPBACK_CONFIG_WRITE_MAX];
		} config_write;
		__u64 pad[34];
	};
};

/*
 * VIRTIO_LOOPBACK_ANSWER - the answer to a request.
 *
 * @id: of the request.
 * @status: 0, or a negative errno. A START that is refused leaves the device
 *	QUIESCED; a STOP or CONFIG_WRITE that is refused counts as done.
 *
 * Errors: ENOENT (no such request, given up, or already answered).
 */
struct virtio_loopback_answer {
	__u64 id;
	__s32 status;
	__u32 reserved;
};

/* Tell the driver: raise the config change interrupt. */
#define VIRTIO_LOOPBACK_CONFIG_NOTIFY	(1U << 0)

/*
 * VIRTIO_LOOPBACK_SET_CONFIG - replace bytes of the config space.
 *
 * @offset, @length: the bytes; inside the config space. Errors: EINVAL, E2BIG
 *	(more of something than VIRTIO_LOOPBACK_MAX_SOUND_ITEMS).
 * @flags: VIRTIO_LOOPBACK_CONFIG_*.
 * @data: address of @length bytes.
 */
struct virtio_loopback_config {
	__u32 offset;
	__u32 length;
	__u32 flags;
	__u32 reserved;
	__u64 data;
};

#define VIRTIO_LOOPBACK_IOC		0xB9
#define VIRTIO_LOOPBACK_GET_INFO	_IOR(VIRTIO_LOOPBACK_IOC, 0x00, struct virtio_loopback_info)
#define VIRTIO_LOOPBACK_LIST		_IOWR(VIRTIO_LOOPBACK_IOC, 0x01, struct virtio_loopback_list)
#define VIRTIO_LOOPBACK_CREATE		_IOW(VIRTIO_LOOPBACK_IOC, 0x02, struct virtio_loopback_create)
#define VIRTIO_LOOPBACK_ATTACH		_IOW(VIRTIO_LOOPBACK_IOC, 0x03, struct virtio_loopback_name)
#define VIRTIO_LOOPBACK_DESTROY		_IOW(VIRTIO_LOOPBACK_IOC, 0x04, struct virtio_loopback_name)
#define VIRTIO_LOOPBACK_GET_DEVICE	_IOR(VIRTIO_LOOPBACK_IOC, 0x05, struct virtio_loopback_device)
#define VIRTIO_LOOPBACK_GET_QUEUE	_IOWR(VIRTIO_LOOPBACK_IOC, 0x06, struct virtio_loopback_queue)
/* Returns a new file descriptor of the memory file (close-on-exec). */
#define VIRTIO_LOOPBACK_GET_MEMORY	_IO(VIRTIO_LOOPBACK_IOC, 0x07)
#define VIRTIO_LOOPBACK_SET_EVENTFDS	_IOW(VIRTIO_LOOPBACK_IOC, 0x08, struct virtio_loopback_eventfds)
#define VIRTIO_LOOPBACK_ANSWER		_IOW(VIRTIO_LOOPBACK_IOC, 0x09, struct virtio_loopback_answer)
#define VIRTIO_LOOPBACK_SET_CONFIG	_IOW(VIRTIO_LOOPBACK_IOC, 0x0a, struct virtio_loopback_config)

#endif /* _UAPI_LINUX_VIRTIO_LOOPBACK_H */
