// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver is removed from a device while an application asks it something.
 *
 * When virtio_snd is removed it first gives up all control messages that have
 * no answer yet, and resets the device much later. A message that the device
 * answers in between is completed a second time, after it has been freed. So
 * removing it begins here: what was asked is answered first, and nothing is
 * asked until the messages have been given up.
 *
 * It does the same when its probe fails, which it does when a message has had
 * no answer for a second: then no answer is heard shortly before that time.
 *
 * From then on the driver asks again, to stop its streams, and does so first in
 * the task that removes it.
 *
 * An event that comes while virtio_snd is being bound or removed is for jacks,
 * streams and controls that are not there yet, or not any more. Events are not
 * heard meanwhile; those of a probe are heard when it has ended.
 *
 * And where a card is given an id while it is being removed, as udev may well
 * do, the kernel's sound core follows a null pointer. Its id is closed before.
 */
#include <linux/delay.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/virtio_ring.h>

#include "compat.h"
#include "loopback.h"

/* Whether a buffer is not to be mapped now, since it would be one too many. */
bool vl_unbind_refuses(struct vl_device *vl)
{
	struct task_struct *task = READ_ONCE(vl->unbinding);

	/*
	 * A probe asks one thing after the other. What its callbacks map, for
	 * events that a process floods the driver with, is no question.
	 */
	if (unlikely(READ_ONCE(vl->probing) == current) && in_task()) {
		WRITE_ONCE(vl->asked, jiffies);
		/* Before it is in the queue; pairs with vl_unbind_mutes(). */
		smp_wmb();
	}
	if (likely(!task))
		return false;
	if (task != current || !in_task())
		return true;
	WRITE_ONCE(vl->unbinding, NULL);
	return false;
}

/*
 * By what the driver has got back, which is its own knowledge: a process that
 * lies about what it has answered could make it hear of a message too late.
 */
static bool vl_queue_answered(struct vl_queue *queue)
{
	/* A driver that is asking just now changes it under its own lock. */
	return data_race(READ_ONCE(queue->vq->num_free)) ==
	       virtqueue_get_vring_size(queue->vq);
}

/*
 * Whether nothing is to be heard of a queue while virtio_snd is being bound: of
 * an event; of an answer to an application, which has streams without functions
 * of ours; or of one that may come when the probe has given up its message, and
 * from then on of none.
 * Context: a callback; the queue stays meanwhile.
 */
bool vl_unbind_mutes(struct vl_queue *queue)
{
	struct vl_device *vl = queue->vl;
	unsigned long end;

	if (likely(!READ_ONCE(vl->probing)) ||
	    vl->device_id != VIRTIO_ID_SOUND)
		return false;
	if (queue->index == VL_SND_EVENT)
		return true;
	if (queue->index != VL_SND_CONTROL)
		return false;
	/* An application's answer is for afterwards; a probe has no more then. */
	if (READ_ONCE(vl->early))
		return true;
	if (vl_queue_answered(queue))
		return false;
	/* Pairs with vl_unbind_refuses(). */
	smp_rmb();
	end = READ_ONCE(vl->asked) + msecs_to_jiffies(VL_HEARD_MS);
	if (time_before(jiffies, end))
		return false;
	WRITE_ONCE(queue->muted, true);
	return true;
}

/* Whether a child of a virtio device is the card that virtio_snd has made. */
bool vl_is_sound(const struct device *child)
{
	return child->class && !strcmp(child->class->name, "sound");
}

/* Waits for who writes the card's id just now; nobody does afterwards. */
static int vl_unbind_close_id(struct device *child, void *unused)
{
	static const struct attribute id = { .name = "id" };

	if (vl_is_sound(child))
		sysfs_remove_file(&child->kobj, &id);
	return 0;
}

static void vl_sound_bound(struct vl_device *vl)
{
	u32 i;

	vl_pcm_guard(vl);
	vl_tlv_guard(vl);
	/* A process that calls all the time is waited for only if it is in vain. */
	for (i = 0; i < vl->queue_count; i++)
		WRITE_ONCE(vl->queues[i].muted, true);
	WRITE_ONCE(vl->probing, NULL);
	/* Whoever has seen it being probed has muted the queue by now. */
	vl_queue_synchronize(vl);
	for (i = 0; i < vl->queue_count; i++) {
		WRITE_ONCE(vl->queues[i].muted, false);
		vl_queue_call(&vl->queues[i]);
	}
}

static void vl_probe_end(struct vl_device *vl, bool bound)
{
	if (bound && vl->device_id == VIRTIO_ID_SOUND)
		vl_sound_bound(vl);
	else
		WRITE_ONCE(vl->probing, NULL);
}

static void vl_unbind_begin(struct vl_device *vl)
{
	struct vl_queue *queue = &vl->queues[VL_SND_CONTROL];
	unsigned int waited;

	if (vl->device_id != VIRTIO_ID_SOUND)
		return;
	device_for_each_child(&vl->vdev.dev, NULL, vl_unbind_close_id);
	if (!READ_ONCE(queue->vq))
		return;
	WRITE_ONCE(vl->unbinding, current);
	/* Buffers are mapped under a lock of the driver: those are done now. */
	synchronize_rcu();

	for (waited = 0; waited < VL_ANSWERS_MS; waited++) {
		/* Whether the process has called or not. */
		vl_queue_call(queue);
		vl_queue_flush(vl);
		if (vl_queue_answered(queue))
			break;
		usleep_range(1000, 1100);
	}
	/* Of answers that come later still, the driver does not hear. */
	if (waited == VL_ANSWERS_MS)
		WRITE_ONCE(queue->muted, true);
	if (vl->queue_count > VL_SND_EVENT)
		WRITE_ONCE(vl->queues[VL_SND_EVENT].muted, true);
	vl_queue_synchronize(vl);
}

/* Context: the lock of the virtio device held, by the task that binds it. */
static int vl_unbind_notify(struct notifier_block *block, unsigned long event,
			    void *data)
{
	struct vl_device *vl = container_of(block, struct vl_device,
					    unbind_block);

	if (data != &vl->vdev.dev)
		return NOTIFY_DONE;
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
		WRITE_ONCE(vl->asked, jiffies);
		/* Of an earlier question: this task maps for a new driver now. */
		WRITE_ONCE(vl->asking, NULL);
		bitmap_zero(vl->pcms, VL_SOUND_PCMS);
		memset(vl->pcm_original, 0, sizeof(vl->pcm_original));
		vl->probe_left = VL_BUFFERS_A_CALL + 1;
		WRITE_ONCE(vl->early, false);
		WRITE_ONCE(vl->probing, current);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
		vl_probe_end(vl, event == BUS_NOTIFY_BOUND_DRIVER);
		break;
	case BUS_NOTIFY_UNBIND_DRIVER:
		vl_unbind_begin(vl);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		WRITE_ONCE(vl->unbinding, NULL);
		break;
	}
	return NOTIFY_DONE;
}

/*
 * Context: the virtio device is being registered; no driver has been bound
 * yet. Later calls do nothing.
 */
void vl_unbind_watch(struct vl_device *vl)
{
	if (vl->unbind_block.notifier_call)
		return;
	vl->unbind_block.notifier_call = vl_unbind_notify;
	if (bus_register_notifier(vl->vdev.dev.bus, &vl->unbind_block))
		dev_warn(&vl->dev, "cannot watch what drivers come and go\n");
}

/* Context: the virtio device is not registered any more, or never was. */
void vl_unbind_unwatch(struct vl_device *vl)
{
	if (vl->unbind_block.notifier_call)
		bus_unregister_notifier(vl->vdev.dev.bus, &vl->unbind_block);
	vl->unbind_block.notifier_call = NULL;
}
