// SPDX-License-Identifier: GPL-2.0-only
/* The devices: names, lifetime, state. */
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "compat.h"
#include "loopback.h"

#define VL_DEFAULT_BOUNCE_SIZE		SZ_1M
#define VL_DEFAULT_ZERO_COPY_SIZE	SZ_4M

static unsigned int max_devices = 64;
module_param(max_devices, uint, 0644);
MODULE_PARM_DESC(max_devices, "Most devices at the same time (default 64)");

static DEFINE_MUTEX(vl_devices_mutex);
static LIST_HEAD(vl_devices);
static unsigned int vl_device_count;

static struct class vl_class = {
	.name		= "virtio-loopback",
	.dev_groups	= vl_sysfs_groups,
	.pm		= &vl_sleep_ops,
};

int vl_class_register(void)
{
	return class_register(&vl_class);
}

void vl_class_unregister(void)
{
	class_unregister(&vl_class);
}

/* The last reference may be dropped where sleeping is not allowed. */
static void vl_device_free_work(struct work_struct *work)
{
	struct vl_device *vl = container_of(work, struct vl_device, free_work);

	/* One that DESTROY asked for while the last one was at work. */
	cancel_work_sync(&vl->life_work);
	cancel_delayed_work_sync(&vl->expire_work);
	cancel_work_sync(&vl->hangup_work);
	vl_memory_destroy(vl);
	vl_user_uncharge(vl);
	kfree(vl->queues);
	kfree(vl->config);
	kfree(vl);
	/* The module's exit drains this workqueue before the code goes. */
	module_put(THIS_MODULE);
}

static void vl_device_release(struct device *dev)
{
	queue_work(vl_workqueue, &dev_to_vl(dev)->free_work);
}

/*
 * Probing a driver that failed before, if none is there: it may have had no
 * process to ask. The device is in the state that the failed probe has left.
 * One that does not use its queues any more begins anew.
 */
static void vl_device_probe_again(struct vl_device *vl)
{
	struct virtio_device *vdev = &vl->vdev;

	if (READ_ONCE(vl->broken))
		device_release_driver(&vdev->dev);
	device_lock(&vdev->dev);
	if (!vdev->dev.driver) {
		vdev->config->reset(vdev);
		virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	}
	device_unlock(&vdev->dev);
	if (device_attach(&vdev->dev) < 0)
		dev_warn(&vl->dev, "the driver could not be bound\n");
}

/* Has a driver that does not use its queues begin anew with who is attached. */
void vl_device_mend(struct vl_device *vl)
{
	spin_lock(&vl->lock);
	if (vl->broken && vl->control && !vl->dying) {
		vl->probe_again = true;
		queue_work(vl_workqueue, &vl->life_work);
	}
	spin_unlock(&vl->lock);
}

/*
 * A signal ends virtio_snd's wait for an answer, and it frees what that is for:
 * so it is probed by a work item of ours, where none comes, and not by who loads
 * it. Nor is it deferred: all that is deferred would wait for this device's
 * answers, and be probed while the system goes to sleep.
 * Context: the driver is about to be probed.
 */
int vl_device_may_probe(struct vl_device *vl)
{
	if (vl->device_id != VIRTIO_ID_SOUND ||
	    READ_ONCE(vl->probing) != current ||
	    current_work() == &vl->life_work)
		return 0;
	spin_lock(&vl->lock);
	vl->probe_again = true;
	spin_unlock(&vl->lock);
	queue_work(vl_workqueue, &vl->life_work);
	return -ENODEV;
}

/* Nothing more is asked of the adapter, but for STOP. */
static void vl_device_end(struct vl_device *vl)
{
	spin_lock(&vl->lock);
	WRITE_ONCE(vl->dying, true);
	vl_request_cancel(vl);
	if (vl->control)
		wake_up_interruptible_poll(&vl->control->wait, EPOLLHUP);
	spin_unlock(&vl->lock);
}

static void vl_device_remove(struct vl_device *vl)
{
	if (vl->removed)
		return;
	vl->removed = true;
	/* May take as long as a user keeps the driver's device open. */
	if (vl->registered) {
		unregister_virtio_device(&vl->vdev);
		vl_unbind_unwatch(vl);
	}

	mutex_lock(&vl_devices_mutex);
	list_del(&vl->entry);
	vl_device_count--;
	device_del(&vl->dev);
	mutex_unlock(&vl_devices_mutex);
	put_device(&vl->dev);
}

static void vl_device_probe(struct vl_device *vl)
{
	bool probe_again;
	int err;

	if (!vl->registered && !READ_ONCE(vl->dying)) {
		get_device(&vl->dev);	/* until vl_vdev_release() */
		err = register_virtio_device(&vl->vdev);
		vl->registered = !err;
		if (err) {
			dev_err(&vl->dev, "cannot register: %d\n", err);
			vl_unbind_unwatch(vl);
			put_device(&vl->vdev.dev);
			vl_device_end(vl);
		}
	}
	spin_lock(&vl->lock);
	probe_again = vl->probe_again && !vl->dying;
	vl->probe_again = false;
	spin_unlock(&vl->lock);
	if (probe_again)
		vl_device_probe_again(vl);
}

/* Processes were stopped meanwhile, so that the driver may have given up. */
static void vl_device_probe_later(struct vl_device *vl)
{
	spin_lock(&vl->lock);
	vl->probe_again = true;
	spin_unlock(&vl->lock);
	/* Where it is still near, vl_device_wake_all() does so once more. */
	queue_work(vl_workqueue, &vl->life_work);
}

/*
 * All of this may wait, for the answer to a request or for a user; a caller of
 * CREATE, ATTACH or DESTROY does not. One work item, so it is one at a time.
 */
static void vl_device_life_work(struct work_struct *work)
{
	struct vl_device *vl = container_of(work, struct vl_device, life_work);
	unsigned int wakeups = vl_sleep_wakeups();

	if (!vl_sleep_probe_begin())
		return;	/* until vl_device_wake_all() */
	vl_device_probe(vl);
	if (vl_sleep_since(wakeups))
		vl_device_probe_later(vl);
	vl_sleep_probe_end();
	if (READ_ONCE(vl->dying))
		vl_device_remove(vl);
}

/* Context: vl_devices_mutex held. */
static struct vl_device *vl_device_find(const char *name)
{
	struct vl_device *vl;

	list_for_each_entry(vl, &vl_devices, entry)
		if (!strcmp(vl->name, name))
			return vl;
	return NULL;
}

static void vl_device_init(struct vl_device *vl,
			   const struct virtio_loopback_create *args)
{
	strscpy(vl->name, args->name, sizeof(vl->name));
	vl->device_id = args->device_id;
	vl->vendor_id = args->vendor_id;
	vl->features = args->features;
	vl->flags = args->flags;
	vl->queue_count = args->queue_count;
	vl->config_size = args->config_size;
	spin_lock_init(&vl->lock);
	spin_lock_init(&vl->config_lock);
	mutex_init(&vl->eventfds);
	INIT_WORK(&vl->free_work, vl_device_free_work);
	INIT_WORK(&vl->life_work, vl_device_life_work);
	INIT_WORK(&vl->hangup_work, vl_queue_hangup_work);
	vl_request_init(vl);
	vl_transport_init(vl);

	device_initialize(&vl->dev);
	vl->dev.class = &vl_class;
	vl->dev.release = vl_device_release;
	__module_get(THIS_MODULE);	/* until vl_device_free_work() */
}

static int vl_device_set_up(struct vl_device *vl,
			    const struct virtio_loopback_create *args,
			    const u32 *queue_sizes, struct vl_control *control)
{
	size_t bounce_size = args->bounce_size ?: VL_DEFAULT_BOUNCE_SIZE;
	size_t zero_copy_size = 0;
	int err;
	u32 i;

	vl->queues = kcalloc(vl->queue_count, sizeof(*vl->queues),
			     GFP_KERNEL_ACCOUNT);
	for (i = 0; vl->queues && i < vl->queue_count; i++)
		vl_queue_init(vl, i, queue_sizes[i]);
	if (vl->flags & VIRTIO_LOOPBACK_F_ZERO_COPY)
		zero_copy_size = args->zero_copy_size ?:
				 VL_DEFAULT_ZERO_COPY_SIZE;
	if (!vl->queues)
		return -ENOMEM;
	err = vl_user_charge(vl, control, PAGE_ALIGN(bounce_size) +
					  PAGE_ALIGN(zero_copy_size));
	if (!err)
		err = vl_memory_init(vl, PAGE_ALIGN(bounce_size),
				     PAGE_ALIGN(zero_copy_size));
	if (!err)
		err = vl_dma_init(vl);
	if (!err)
		err = dev_set_name(&vl->dev, "%s", vl->name);
	return err;
}

/* Context: vl_devices_mutex held. */
static int vl_device_add(struct vl_device *vl, struct vl_control *control)
{
	int err;

	if (vl_device_find(vl->name))
		return -EEXIST;
	if (vl_device_count >= READ_ONCE(max_devices))
		return -ENOSPC;
	vl->control = control;
	err = device_add(&vl->dev);
	if (err)
		return err;
	list_add_tail(&vl->entry, &vl_devices);
	vl_device_count++;
	get_device(&vl->dev);	/* the control file's */
	queue_work(vl_workqueue, &vl->life_work);
	return 0;
}

/* Takes over @config when it succeeds. The control file has a reference. */
struct vl_device *vl_device_create(const struct virtio_loopback_create *args,
				   u8 *config, const u32 *queue_sizes,
				   struct vl_control *control)
{
	struct vl_device *vl = kzalloc(sizeof(*vl), GFP_KERNEL_ACCOUNT);
	int err;

	if (!vl)
		return ERR_PTR(-ENOMEM);
	vl_device_init(vl, args);
	err = vl_device_set_up(vl, args, queue_sizes, control);
	if (!err) {
		vl->config = config;
		mutex_lock(&vl_devices_mutex);
		err = vl_device_add(vl, control);
		mutex_unlock(&vl_devices_mutex);
		if (err)
			vl->config = NULL;
	}
	if (err) {
		put_device(&vl->dev);
		return ERR_PTR(err);
	}
	return vl;
}

/* Context: vl_devices_mutex held. */
static int vl_device_take_over(struct vl_device *vl, struct vl_control *control)
{
	int err = 0;

	spin_lock(&vl->lock);
	if (!vl_rights_to(vl, control)) {
		err = -EPERM;
	} else if (vl->dying) {
		err = -ESHUTDOWN;
	} else if (vl->control) {
		err = -EBUSY;
	} else {
		vl->control = control;
		get_device(&vl->dev);
		/* A driver that is there may be about to give up. */
		if (vl->config_ready)
			vl->probe_again = true;
		if (vl->probe_again)
			queue_work(vl_workqueue, &vl->life_work);
	}
	spin_unlock(&vl->lock);
	return err;
}

struct vl_device *vl_device_attach(const char *name, struct vl_control *control)
{
	struct vl_device *vl;
	int err = -ENOENT;

	mutex_lock(&vl_devices_mutex);
	vl = vl_device_find(name);
	if (vl)
		err = vl_device_take_over(vl, control);
	mutex_unlock(&vl_devices_mutex);
	if (err)
		return ERR_PTR(err);
	vl_request_start(vl, false);
	return vl;
}

void vl_device_detach(struct vl_device *vl, struct vl_control *control)
{
	spin_lock(&vl->lock);
	vl->control = NULL;
	vl_request_abandon(vl);
	spin_unlock(&vl->lock);
	vl_queue_see_served(vl);
	put_device(&vl->dev);
}

int vl_device_destroy(const char *name, struct vl_control *control)
{
	struct vl_device *vl;
	int err = -ENOENT;

	mutex_lock(&vl_devices_mutex);
	vl = vl_device_find(name);
	if (vl)
		err = vl_rights_to(vl, control) ? 0 : -EPERM;
	if (!err) {
		vl_device_end(vl);
		vl_queue_let_go(vl);
		queue_work(vl_workqueue, &vl->life_work);
	}
	mutex_unlock(&vl_devices_mutex);
	return err;
}

/* The system has slept: every adapter has its time from now on. */
void vl_device_prolong_all(void)
{
	struct vl_device *vl;

	mutex_lock(&vl_devices_mutex);
	list_for_each_entry(vl, &vl_devices, entry)
		vl_request_prolong(vl);
	mutex_unlock(&vl_devices_mutex);
}

/* The system has slept: processes run again, and what waited for that. */
void vl_device_wake_all(void)
{
	struct vl_device *vl;

	mutex_lock(&vl_devices_mutex);
	list_for_each_entry(vl, &vl_devices, entry)
		queue_work(vl_workqueue, &vl->life_work);
	mutex_unlock(&vl_devices_mutex);
}

/* Context: vl->lock held. */
static u32 vl_device_state_locked(struct vl_device *vl)
{
	if (vl->dying)
		return VIRTIO_LOOPBACK_STATE_DYING;
	if (vl->stopping)
		return VIRTIO_LOOPBACK_STATE_STOPPING;
	if (!(vl->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return VIRTIO_LOOPBACK_STATE_IDLE;
	if (vl->start_pending)
		return VIRTIO_LOOPBACK_STATE_STARTING;
	if (vl->started && !vl->abandoned)
		return VIRTIO_LOOPBACK_STATE_LIVE;
	return VIRTIO_LOOPBACK_STATE_QUIESCED;
}

u32 vl_device_state(struct vl_device *vl)
{
	u32 state;

	spin_lock(&vl->lock);
	state = vl_device_state_locked(vl);
	spin_unlock(&vl->lock);
	return state;
}

void vl_device_describe(struct vl_device *vl,
			struct virtio_loopback_device *out)
{
	memset(out, 0, sizeof(*out));
	strscpy(out->name, vl->name, sizeof(out->name));
	out->device_id = vl->device_id;
	out->vendor_id = vl->vendor_id;
	out->features = vl->features;
	out->memory_size = (u64)vl->memory.pages << PAGE_SHIFT;
	out->flags = vl->flags;
	out->queue_count = vl->queue_count;
	out->config_size = vl->config_size;
	out->owner = from_kuid_munged(current_user_ns(), vl->owner);
	/* As it is just now; under the lock of the driver core, not of ours. */
	out->driver_bound = !!data_race(READ_ONCE(vl->vdev.dev.driver));

	spin_lock(&vl->lock);
	out->driver_features = vl->driver_features;
	out->state = vl_device_state_locked(vl);
	out->attached = !!vl->control;
	out->virtio_index = vl->config_ready ? vl->vdev.index : U32_MAX;
	spin_unlock(&vl->lock);
}

/* Describe the first @capacity devices. Returns how many there are. */
u32 vl_device_list(struct virtio_loopback_device *devices, u32 capacity)
{
	struct vl_device *vl;
	u32 count = 0;

	mutex_lock(&vl_devices_mutex);
	list_for_each_entry(vl, &vl_devices, entry) {
		if (count < capacity)
			vl_device_describe(vl, &devices[count]);
		count++;
	}
	mutex_unlock(&vl_devices_mutex);
	return count;
}
