// SPDX-License-Identifier: GPL-2.0-only
/* What a user sees in /sys/class/virtio-loopback/NAME; see ABI-sysfs. */
#include <linux/device.h>
#include <linux/sysfs.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

#include "loopback.h"

#define VL_ATTRIBUTE(_name, _format, _value)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	struct vl_device *vl = dev_to_vl(dev);				\
									\
	return sysfs_emit(buf, _format "\n", _value);			\
}									\
static DEVICE_ATTR_RO(_name)

static u64 vl_kicks(struct vl_device *vl)
{
	u64 kicks = 0;
	u32 i;

	for (i = 0; i < vl->queue_count; i++) {
		struct vl_queue *queue = &vl->queues[i];

		spin_lock_irq(&queue->kick_lock);
		kicks += queue->kicks;
		spin_unlock_irq(&queue->kick_lock);
	}
	return kicks;
}

static s64 vl_calls(struct vl_device *vl)
{
	s64 calls = 0;
	u32 i;

	for (i = 0; i < vl->queue_count; i++)
		calls += atomic64_read(&vl->queues[i].calls);
	return calls;
}

static struct virtio_loopback_device vl_described(struct vl_device *vl)
{
	struct virtio_loopback_device device;

	vl_device_describe(vl, &device);
	return device;
}

static const char *vl_state_name(struct vl_device *vl)
{
	static const char * const names[] = {
		[VIRTIO_LOOPBACK_STATE_IDLE]		= "idle",
		[VIRTIO_LOOPBACK_STATE_STARTING]	= "starting",
		[VIRTIO_LOOPBACK_STATE_LIVE]		= "live",
		[VIRTIO_LOOPBACK_STATE_QUIESCED]	= "quiesced",
		[VIRTIO_LOOPBACK_STATE_STOPPING]	= "stopping",
		[VIRTIO_LOOPBACK_STATE_DYING]		= "dying",
	};

	return names[vl_device_state(vl)];
}

VL_ATTRIBUTE(name, "%s", vl->name);
VL_ATTRIBUTE(device_id, "%u", vl->device_id);
VL_ATTRIBUTE(vendor_id, "%u", vl->vendor_id);
VL_ATTRIBUTE(owner, "%u", from_kuid_munged(&init_user_ns, vl->owner));
VL_ATTRIBUTE(state, "%s", vl_state_name(vl));
VL_ATTRIBUTE(features, "0x%016llx", vl->features);
VL_ATTRIBUTE(driver_features, "0x%016llx", vl_described(vl).driver_features);
VL_ATTRIBUTE(attached, "%d", vl_described(vl).attached);
VL_ATTRIBUTE(queues, "%u", vl->queue_count);
VL_ATTRIBUTE(memory_size, "%llu", (u64)vl->memory.pages << PAGE_SHIFT);
VL_ATTRIBUTE(kicks, "%llu", vl_kicks(vl));
VL_ATTRIBUTE(calls, "%lld", vl_calls(vl));
VL_ATTRIBUTE(bounce_size, "%zu", vl->bounce.size);
VL_ATTRIBUTE(bounce_used, "%zu", vl_bounce_used(vl));
VL_ATTRIBUTE(bounce_full, "%lld",
	     (s64)atomic64_read(&vl->counters.bounce_full));
VL_ATTRIBUTE(bounced_bytes, "%lld",
	     (s64)atomic64_read(&vl->counters.bounced_bytes));
VL_ATTRIBUTE(zero_copy_size, "%lu", vl->zero_copy.max_pages << PAGE_SHIFT);
VL_ATTRIBUTE(zero_copy_pages, "%lu", READ_ONCE(vl->zero_copy.pages));
VL_ATTRIBUTE(zero_copy_full, "%lld",
	     (s64)atomic64_read(&vl->counters.zero_copy_full));
VL_ATTRIBUTE(requests, "%lld", (s64)atomic64_read(&vl->counters.requests));
VL_ATTRIBUTE(request_timeouts, "%lld",
	     (s64)atomic64_read(&vl->counters.request_timeouts));
VL_ATTRIBUTE(restarts, "%lld", (s64)atomic64_read(&vl->counters.restarts));

/* Empty while there is none, or while it is being bound or unbound. */
static ssize_t driver_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	struct vl_device *vl = dev_to_vl(dev);
	const char *name = "";
	ssize_t length;
	bool locked;

	/*
	 * The lock keeps the driver; probing may hold it for seconds. Pairs with
	 * vl_reset(): there is a lock.
	 */
	locked = smp_load_acquire(&vl->config_ready) &&
		 device_trylock(&vl->vdev.dev);
	if (locked && vl->vdev.dev.driver)
		name = vl->vdev.dev.driver->name;
	length = sysfs_emit(buf, "%s\n", name);
	if (locked)
		device_unlock(&vl->vdev.dev);
	return length;
}
static DEVICE_ATTR_RO(driver);

static struct attribute *vl_attrs[] = {
	&dev_attr_name.attr,
	&dev_attr_device_id.attr,
	&dev_attr_vendor_id.attr,
	&dev_attr_owner.attr,
	&dev_attr_state.attr,
	&dev_attr_features.attr,
	&dev_attr_driver_features.attr,
	&dev_attr_attached.attr,
	&dev_attr_driver.attr,
	&dev_attr_queues.attr,
	&dev_attr_memory_size.attr,
	&dev_attr_kicks.attr,
	&dev_attr_calls.attr,
	&dev_attr_bounce_size.attr,
	&dev_attr_bounce_used.attr,
	&dev_attr_bounce_full.attr,
	&dev_attr_bounced_bytes.attr,
	&dev_attr_zero_copy_size.attr,
	&dev_attr_zero_copy_pages.attr,
	&dev_attr_zero_copy_full.attr,
	&dev_attr_requests.attr,
	&dev_attr_request_timeouts.attr,
	&dev_attr_restarts.attr,
	NULL
};

static const struct attribute_group vl_group = {
	.attrs = vl_attrs,
};

const struct attribute_group *vl_sysfs_groups[] = {
	&vl_group,
	NULL
};
