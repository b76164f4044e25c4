// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls of the control file. Each copies, checks bounds and reserved
 * fields, and leaves the rest to the file that knows.
 */
#include <linux/cpumask.h>
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/virtio_ids.h>

#include "loopback.h"

/* More than any machine has; LIST copies through the kernel's memory. */
#define VL_LIST_MAX	1024

static void vl_control_set_attached(struct vl_control *control,
				    struct vl_device *vl)
{
	/* Whoever sees the device sees it whole: others take no lock. */
	smp_store_release(&control->vl, vl);
	/* A request may have been made meanwhile, and nobody have seen it. */
	wake_up_interruptible(&control->wait);
}

/* The attached device, for a call that its last moments are too late for. */
static struct vl_device *vl_control_device(struct vl_control *control)
{
	struct vl_device *vl = vl_control_attached(control);

	if (!vl)
		return ERR_PTR(-ENODEV);
	if (READ_ONCE(vl->dying))
		return ERR_PTR(-ESHUTDOWN);
	return vl;
}

static bool vl_name_valid(const char *name)
{
	size_t i, length = strnlen(name, VIRTIO_LOOPBACK_NAME_SIZE);

	if (!length || length == VIRTIO_LOOPBACK_NAME_SIZE)
		return false;
	for (i = 0; i < length; i++)
		if (!isascii(name[i]) ||
		    (!isalnum(name[i]) && name[i] != '_' && name[i] != '-'))
			return false;
	return true;
}

static long vl_get_info(void __user *arg)
{
	struct virtio_loopback_info info = {
		.abi_version	= VIRTIO_LOOPBACK_ABI_VERSION,
		.flags		= VIRTIO_LOOPBACK_F_ZERO_COPY,
		.features	= vl_transport_features(),
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long vl_list(void __user *arg)
{
	struct virtio_loopback_device *devices;
	struct virtio_loopback_list list;
	u32 capacity;
	long err = 0;

	if (copy_from_user(&list, arg, sizeof(list)))
		return -EFAULT;
	capacity = min_t(u32, list.capacity, VL_LIST_MAX);
	devices = kvcalloc(max_t(u32, capacity, 1), sizeof(*devices),
			   GFP_KERNEL_ACCOUNT);
	if (!devices)
		return -ENOMEM;
	list.count = vl_device_list(devices, capacity);
	if (copy_to_user(u64_to_user_ptr(list.devices), devices,
			 min(list.count, capacity) * sizeof(*devices)) ||
	    copy_to_user(arg, &list, sizeof(list)))
		err = -EFAULT;
	kvfree(devices);
	return err;
}

static int vl_create_check(const struct virtio_loopback_create *args)
{
	if (!vl_name_valid(args->name) || !args->device_id ||
	    args->flags & ~VIRTIO_LOOPBACK_F_ZERO_COPY || args->reserved0 ||
	    args->reserved[0] || args->reserved[1] || !args->queue_count)
		return -EINVAL;
	if (args->zero_copy_size && !(args->flags & VIRTIO_LOOPBACK_F_ZERO_COPY))
		return -EINVAL;
	if (args->queue_count > VIRTIO_LOOPBACK_MAX_QUEUES ||
	    args->config_size > VIRTIO_LOOPBACK_MAX_CONFIG ||
	    args->bounce_size > VIRTIO_LOOPBACK_MAX_BOUNCE ||
	    args->zero_copy_size > VIRTIO_LOOPBACK_MAX_ZERO_COPY)
		return -E2BIG;
	/*
	 * virtio_console spins for each answer with interrupts off; with one
	 * CPU the process that is to answer would never run.
	 */
	if (args->device_id == VIRTIO_ID_CONSOLE && num_online_cpus() < 2)
		return -EOPNOTSUPP;
	return 0;
}

static int vl_create_copy_queue_sizes(const struct virtio_loopback_create *args,
				      u32 *sizes)
{
	u32 i;

	if (copy_from_user(sizes, u64_to_user_ptr(args->queue_sizes),
			   args->queue_count * sizeof(*sizes)))
		return -EFAULT;
	for (i = 0; i < args->queue_count; i++) {
		if (!is_power_of_2(sizes[i]))
			return -EINVAL;
		if (sizes[i] > VIRTIO_LOOPBACK_MAX_QUEUE_SIZE)
			return -E2BIG;
	}
	return 0;
}

/* Context: control->mutex held. */
static long vl_create(struct vl_control *control, void __user *arg)
{
	u32 queue_sizes[VIRTIO_LOOPBACK_MAX_QUEUES];
	struct virtio_loopback_create args;
	struct vl_device *vl;
	u8 *config;
	int err;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	err = vl_create_check(&args);
	if (!err)
		err = vl_rights_to_create(control, args.device_id);
	if (!err)
		err = vl_create_copy_queue_sizes(&args, queue_sizes);
	if (!err && !vl_queues_sensible(args.device_id, queue_sizes,
					args.queue_count))
		err = -EINVAL;
	if (err)
		return err;

	config = memdup_user(u64_to_user_ptr(args.config), args.config_size);
	if (IS_ERR(config))
		return PTR_ERR(config);
	vl = ERR_PTR(-E2BIG);
	if (vl_config_sensible(args.device_id, config, args.config_size))
		vl = vl_device_create(&args, config, queue_sizes, control);
	if (IS_ERR(vl)) {
		kfree(config);
		return PTR_ERR(vl);
	}
	vl_control_set_attached(control, vl);
	return 0;
}

static long vl_copy_name(char *name, void __user *arg)
{
	if (copy_from_user(name, arg, VIRTIO_LOOPBACK_NAME_SIZE))
		return -EFAULT;
	return vl_name_valid(name) ? 0 : -EINVAL;
}

/* Context: control->mutex held. */
static long vl_attach(struct vl_control *control, void __user *arg)
{
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	struct vl_device *vl;
	long err = vl_copy_name(name, arg);

	if (err)
		return err;
	vl = vl_device_attach(name, control);
	if (IS_ERR(vl))
		return PTR_ERR(vl);
	vl_control_set_attached(control, vl);
	return 0;
}

static long vl_destroy(struct vl_control *control, void __user *arg)
{
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	long err = vl_copy_name(name, arg);

	return err ?: vl_device_destroy(name, control);
}

static long vl_get_device(struct vl_device *vl, void __user *arg)
{
	struct virtio_loopback_device device;

	vl_device_describe(vl, &device);
	return copy_to_user(arg, &device, sizeof(device)) ? -EFAULT : 0;
}

static long vl_get_queue(struct vl_device *vl, void __user *arg)
{
	struct virtio_loopback_queue args;
	struct vl_queue *queue;
	bool running;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.index >= vl->queue_count || args.reserved[0] ||
	    args.reserved[1])
		return -EINVAL;
	queue = &vl->queues[args.index];

	spin_lock(&vl->lock);
	running = vl->status & VIRTIO_CONFIG_S_DRIVER_OK || vl->stopping;
	args.size = queue->size;
	args.desc_addr = queue->size ? queue->desc_addr : 0;
	args.driver_addr = queue->size ? queue->driver_addr : 0;
	args.device_addr = queue->size ? queue->device_addr : 0;
	spin_unlock(&vl->lock);
	if (!running)
		return -ENXIO;
	return copy_to_user(arg, &args, sizeof(args)) ? -EFAULT : 0;
}

static long vl_set_eventfds(struct vl_device *vl, void __user *arg)
{
	struct virtio_loopback_eventfds args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.index >= vl->queue_count || args.reserved)
		return -EINVAL;
	return vl_queue_set_eventfds(&vl->queues[args.index], args.kick,
				     args.call);
}

static long vl_set_config(struct vl_device *vl, void __user *arg)
{
	struct virtio_loopback_config args;
	void *data;
	long err;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved || args.flags & ~VIRTIO_LOOPBACK_CONFIG_NOTIFY ||
	    args.length > vl->config_size)
		return -EINVAL;
	data = memdup_user(u64_to_user_ptr(args.data), args.length);
	if (IS_ERR(data))
		return PTR_ERR(data);
	err = vl_transport_set_config(vl, &args, data);
	kfree(data);
	return err;
}

static long vl_answer(struct vl_control *control, void __user *arg)
{
	struct vl_device *vl = vl_control_attached(control);
	struct virtio_loopback_answer args;

	/* Also while the device is being destroyed: STOP comes then. */
	if (!vl)
		return -ENODEV;
	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved)
		return -EINVAL;
	return vl_request_answer(vl, args.id, args.status);
}

static long vl_control_ioctl_device(struct vl_control *control,
				    unsigned int cmd, void __user *arg)
{
	struct vl_device *vl = vl_control_device(control);

	if (IS_ERR(vl))
		return PTR_ERR(vl);
	switch (cmd) {
	case VIRTIO_LOOPBACK_GET_DEVICE:
		return vl_get_device(vl, arg);
	case VIRTIO_LOOPBACK_GET_QUEUE:
		return vl_get_queue(vl, arg);
	case VIRTIO_LOOPBACK_GET_MEMORY:
		return vl_memory_file_open(vl);
	case VIRTIO_LOOPBACK_SET_EVENTFDS:
		return vl_set_eventfds(vl, arg);
	default:
		return vl_set_config(vl, arg);
	}
}

long vl_control_ioctl(struct file *file, unsigned int cmd,
		      unsigned long argument)
{
	struct vl_control *control = file->private_data;
	void __user *arg = (void __user *)argument;
	long err = -EBUSY;

	switch (cmd) {
	case VIRTIO_LOOPBACK_GET_INFO:
		return vl_get_info(arg);
	case VIRTIO_LOOPBACK_LIST:
		return vl_list(arg);
	case VIRTIO_LOOPBACK_DESTROY:
		return vl_destroy(control, arg);
	case VIRTIO_LOOPBACK_CREATE:
	case VIRTIO_LOOPBACK_ATTACH:
		mutex_lock(&control->mutex);
		if (!control->vl)
			err = cmd == VIRTIO_LOOPBACK_CREATE ?
			      vl_create(control, arg) : vl_attach(control, arg);
		mutex_unlock(&control->mutex);
		return err;
	case VIRTIO_LOOPBACK_ANSWER:
		return vl_answer(control, arg);
	case VIRTIO_LOOPBACK_GET_DEVICE:
	case VIRTIO_LOOPBACK_GET_QUEUE:
	case VIRTIO_LOOPBACK_GET_MEMORY:
	case VIRTIO_LOOPBACK_SET_EVENTFDS:
	case VIRTIO_LOOPBACK_SET_CONFIG:
		return vl_control_ioctl_device(control, cmd, arg);
	default:
		return -ENOTTY;
	}
}
