// SPDX-License-Identifier: GPL-2.0-only
/* What virtio asks of a transport. */
#include <linux/bits.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <uapi/linux/virtio_net.h>

#include "compat.h"
#include "loopback.h"

/*
 * The features that the transport and vhost-user can carry: those of the
 * device types (0 to 23, 50 to 63), and of the queues what is listed. The rest
 * (packed queues, notification data, queue reset, ...) is never offered.
 */
#define VL_FEATURES	(GENMASK_ULL(23, 0) | GENMASK_ULL(63, 50) |	\
			 BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |		\
			 BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |		\
			 VL_FORCED_FEATURES)

/* ACCESS_PLATFORM makes the driver use addresses of ours, not physical ones. */
#define VL_FORCED_FEATURES	(BIT_ULL(VIRTIO_F_VERSION_1) |		\
				 BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))

u64 vl_transport_features(void)
{
	return VL_FEATURES;
}

static void vl_get(struct virtio_device *vdev, unsigned int offset, void *data,
		   unsigned int length)
{
	struct vl_device *vl = vdev_to_vl(vdev);
	unsigned long flags;

	spin_lock_irqsave(&vl->config_lock, flags);
	if (offset <= vl->config_size && length <= vl->config_size - offset)
		memcpy(data, vl->config + offset, length);
	else
		memset(data, 0, length);
	spin_unlock_irqrestore(&vl->config_lock, flags);
}

/* Some devices give meaning to a write, so the driver waits for its effect. */
static void vl_set(struct virtio_device *vdev, unsigned int offset,
		   const void *data, unsigned int length)
{
	struct vl_device *vl = vdev_to_vl(vdev);

	if (offset > vl->config_size || length > vl->config_size - offset)
		return;
	while (length) {
		u32 part = min_t(u32, length, VIRTIO_LOOPBACK_CONFIG_WRITE_MAX);

		vl_request_config_write(vl, offset, data, part);
		offset += part;
		data += part;
		length -= part;
	}
}

static u32 vl_generation(struct virtio_device *vdev)
{
	return READ_ONCE(vdev_to_vl(vdev)->config_generation);
}

/*
 * virtio_snd asks at once for the memory for all that its device says to have,
 * and where it says nonsense, the kernel warns that nobody can have so much.
 */
bool vl_config_sensible(u32 device_id, const u8 *config, u32 size)
{
	u32 i;

	if (device_id != VIRTIO_ID_SOUND)
		return true;
	/* The counts that its config space starts with, and that is all. */
	for (i = 0; i + sizeof(u32) <= min_t(u32, size, 4 * sizeof(u32));
	     i += sizeof(u32))
		if (get_unaligned_le32(config + i) >
		    VIRTIO_LOOPBACK_MAX_SOUND_ITEMS)
			return false;
	return true;
}

/*
 * virtio_snd's messages have three parts at least; of one that no queue has
 * room for, the kernel warns.
 */
bool vl_queues_sensible(u32 device_id, const u32 *sizes, u32 count)
{
	u32 i;

	for (i = 0; i < count && device_id == VIRTIO_ID_SOUND; i++)
		if (sizes[i] < VIRTIO_LOOPBACK_MIN_SOUND_QUEUE)
			return false;
	return true;
}

/* Context: vl->config_lock held. Returns whether the bytes were taken. */
static bool vl_config_replace(struct vl_device *vl, u32 offset, u32 length,
			      const void *data)
{
	u8 counts[4 * sizeof(u32)];
	u32 kept = min_t(u32, sizeof(counts), vl->config_size);

	memcpy(counts, vl->config, kept);
	if (offset < kept)
		memcpy(counts + offset, data, min(length, kept - offset));
	if (!vl_config_sensible(vl->device_id, counts, kept))
		return false;
	memcpy(vl->config + offset, data, length);
	WRITE_ONCE(vl->config_generation, vl->config_generation + 1);
	return true;
}

int vl_transport_set_config(struct vl_device *vl,
			    const struct virtio_loopback_config *args,
			    const void *data)
{
	bool notify = args->flags & VIRTIO_LOOPBACK_CONFIG_NOTIFY;
	unsigned long flags;
	bool taken;

	if (args->offset > vl->config_size ||
	    args->length > vl->config_size - args->offset)
		return -EINVAL;
	spin_lock_irqsave(&vl->config_lock, flags);
	taken = vl_config_replace(vl, args->offset, args->length, data);
	spin_unlock_irqrestore(&vl->config_lock, flags);
	if (!taken)
		return -E2BIG;

	spin_lock(&vl->lock);
	/* Before, virtio's own lock is not there; nobody has read anything. */
	notify &= vl->config_ready;
	spin_unlock(&vl->lock);

	if (notify)
		virtio_config_changed(&vl->vdev);
	return 0;
}

static u8 vl_get_status(struct virtio_device *vdev)
{
	return READ_ONCE(vdev_to_vl(vdev)->status);
}

static void vl_set_status(struct virtio_device *vdev, u8 status)
{
	struct vl_device *vl = vdev_to_vl(vdev);
	bool ready;

	spin_lock(&vl->lock);
	ready = status & ~vl->status & VIRTIO_CONFIG_S_DRIVER_OK;
	if (ready) {
		vl->used = false;
		vl->started = false;
		vl->abandoned = false;
		WRITE_ONCE(vl->broken, false);
		vl->driver_features = vdev->features;
	}
	WRITE_ONCE(vl->status, status);
	spin_unlock(&vl->lock);

	/* The first status of a device that is registered. */
	vl_unbind_watch(vl);
	if (ready) {
		vl_queue_accept_eventfds(vl);
		vl_request_start(vl, true);
		vl_queue_driver_ok(vl);
	}
}

/*
 * What virtio_console was sending when its queues were broken, as it does itself
 * when it is removed, may be its one control message, or freed since; and it would
 * free it as a buffer of its own. What is one, a writer's to a port, is lost rather.
 */
static void vl_console_forget_sent(struct vl_device *vl)
{
	u32 i;

	/* Those who found them whole have done with them, also on PREEMPT_RT. */
	synchronize_rcu();
	/* Each second queue is one that it sends by. */
	for (i = 1; i < vl->queue_count; i += 2) {
		struct virtqueue *vq = READ_ONCE(vl->queues[i].vq);

		if (vq && virtqueue_is_broken(vq))
			while (virtqueue_detach_unused_buf(vq))
				;
	}
}

static void vl_reset(struct virtio_device *vdev)
{
	struct vl_device *vl = vdev_to_vl(vdev);
	bool running;

	spin_lock(&vl->lock);
	running = vl->status & VIRTIO_CONFIG_S_DRIVER_OK;
	WRITE_ONCE(vl->status, 0);
	/* Pairs with driver_show(). */
	smp_store_release(&vl->config_ready, true);
	spin_unlock(&vl->lock);

	if (!running)
		return;
	vl_request_stop(vl);
	vl_queue_detach_all(vl);
	/* Whoever touches the queues now meets what is there, at each touch. */
	down_write(&vl->memory.sem);
	vl_memory_unmap(&vl->memory, 0, vl->memory.pages);
	up_write(&vl->memory.sem);
	if (vl->device_id == VIRTIO_ID_CONSOLE)
		vl_console_forget_sent(vl);
}

static u64 vl_get_features(struct virtio_device *vdev)
{
	return vdev_to_vl(vdev)->features;
}

static int vl_finalize_features(struct virtio_device *vdev)
{
	struct vl_device *vl = vdev_to_vl(vdev);

	vring_transport_features(vdev);
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1) ||
	    !virtio_has_feature(vdev, VIRTIO_F_ACCESS_PLATFORM)) {
		dev_err(&vl->dev,
			"the driver lacks VERSION_1 or ACCESS_PLATFORM\n");
		return -EINVAL;
	}
	return vl_device_may_probe(vl);
}

static struct virtqueue *vl_find_vq(struct vl_device *vl, u32 index,
				    vq_callback_t *callback, const char *name,
				    bool ctx)
{
	struct vl_queue *queue;
	struct virtqueue *vq;
	u32 size;

	if (index >= vl->queue_count)
		return ERR_PTR(-ENOENT);
	queue = &vl->queues[index];
	vq = vring_create_virtqueue(index, queue->max_size, PAGE_SIZE,
				    &vl->vdev, true, true, ctx,
				    vl_queue_notify, callback, name);
	if (!vq)
		return ERR_PTR(-ENOMEM);
	/* Where there is no memory for all of it, it has become smaller. */
	size = virtqueue_get_vring_size(vq);
	if (!vl_queues_sensible(vl->device_id, &size, 1)) {
		vring_del_virtqueue(vq);
		return ERR_PTR(-ENOMEM);
	}
#if VL_HAVE_SYNCHRONIZE_CBS
	vq->num_max = queue->max_size;
#endif
	vq->priv = queue;
	WRITE_ONCE(queue->muted, false);
	spin_lock(&vl->lock);
	queue->size = size;
	queue->desc_addr = virtqueue_get_desc_addr(vq);
	queue->driver_addr = virtqueue_get_avail_addr(vq);
	queue->device_addr = virtqueue_get_used_addr(vq);
	spin_unlock(&vl->lock);
	WRITE_ONCE(queue->vq, vq);
	return vq;
}

/*
 * What a driver leaves in a queue that it deletes is its own, but for tables of
 * indirect descriptors: those only virtio_ring can free. Nothing is copied back,
 * for nothing is mapped any more. Older kernels look for the tables where the
 * process can write, and lose them rather.
 */
static void vl_drop_unused(struct virtqueue *vq)
{
	if (VL_HAVE_PRIVATE_DESCS)
		while (virtqueue_detach_unused_buf(vq))
			;
}

static void vl_del_vqs(struct virtio_device *vdev)
{
	struct vl_device *vl = vdev_to_vl(vdev);
	struct virtqueue *vq, *next;
	u32 i;

	/* Who deletes its queues does not want to hear of them any more. */
	for (i = 0; i < vl->queue_count; i++)
		WRITE_ONCE(vl->queues[i].muted, true);
	vl_queue_synchronize(vl);
	/* virtio_snd deletes its queues first and resets the device then. */
	if (READ_ONCE(vl->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		vl_request_stop(vl);
	/* After a reset there is none left; a failed probe may not reset. */
	vl_queue_detach_all(vl);
	vl_bounce_release_all(vl);
	vl_zero_copy_release_all(vl);
	list_for_each_entry_safe(vq, next, &vdev->vqs, list) {
		struct vl_queue *queue = vq->priv;

		WRITE_ONCE(queue->vq, NULL);
		spin_lock(&vl->lock);
		queue->size = 0;
		spin_unlock(&vl->lock);
		vl_drop_unused(vq);
		vring_del_virtqueue(vq);
	}
}

#if VL_HAVE_VIRTQUEUE_INFO
static int vl_find_vqs(struct virtio_device *vdev, unsigned int count,
		       struct virtqueue *vqs[], struct virtqueue_info info[],
		       struct irq_affinity *affinity)
{
#define VL_VQ_NAME(i)		(info[i].name)
#define VL_VQ_CALLBACK(i)	(info[i].callback)
#define VL_VQ_CTX(i)		(info[i].ctx)
#else
static int vl_find_vqs(struct virtio_device *vdev, unsigned int count,
		       struct virtqueue *vqs[], vq_callback_t *callbacks[],
		       const char * const names[], const bool *ctx,
		       struct irq_affinity *affinity)
{
#define VL_VQ_NAME(i)		(names[i])
#define VL_VQ_CALLBACK(i)	(callbacks[i])
#define VL_VQ_CTX(i)		(ctx ? ctx[i] : false)
#endif
	struct vl_device *vl = vdev_to_vl(vdev);
	unsigned int i, index = 0;

	for (i = 0; i < count; i++) {
		vqs[i] = NULL;
		/* A queue that the driver does not want has no number. */
		if (!VL_VQ_NAME(i))
			continue;
		vqs[i] = vl_find_vq(vl, index++, VL_VQ_CALLBACK(i),
				    VL_VQ_NAME(i), VL_VQ_CTX(i));
		if (IS_ERR(vqs[i])) {
			int err = PTR_ERR(vqs[i]);

			vl_del_vqs(vdev);
			return err;
		}
	}
	return 0;
}

#if VL_HAVE_SYNCHRONIZE_CBS
static void vl_synchronize_cbs(struct virtio_device *vdev)
{
	vl_queue_synchronize(vdev_to_vl(vdev));
}
#endif

static const char *vl_bus_name(struct virtio_device *vdev)
{
	return vdev_to_vl(vdev)->name;
}

static const struct virtio_config_ops vl_config_ops = {
	.get			= vl_get,
	.set			= vl_set,
	.generation		= vl_generation,
	.get_status		= vl_get_status,
	.set_status		= vl_set_status,
	.reset			= vl_reset,
	.find_vqs		= vl_find_vqs,
	.del_vqs		= vl_del_vqs,
#if VL_HAVE_SYNCHRONIZE_CBS
	.synchronize_cbs	= vl_synchronize_cbs,
#endif
	.get_features		= vl_get_features,
	.finalize_features	= vl_finalize_features,
	.bus_name		= vl_bus_name,
};

static void vl_vdev_release(struct device *dev)
{
	struct vl_device *vl = vdev_to_vl(dev_to_virtio(dev));

	put_device(&vl->dev);
}

/*
 * What virtio_net does not survive. It asks for statistics by the queue of
 * commands, whether it has found one or not, and the kernel stops at that. And
 * it stands in for another card by net_failover, which takes a lock before it
 * has made it; no device of ours is there to be stood in for.
 */
#define VL_NET_F_DEVICE_STATS	50

static u64 vl_features_sensible(u32 device_id, u64 features)
{
	if (device_id == VIRTIO_ID_NET) {
		features &= ~BIT_ULL(VIRTIO_NET_F_STANDBY);
		if (!(features & BIT_ULL(VIRTIO_NET_F_CTRL_VQ)))
			features &= ~BIT_ULL(VL_NET_F_DEVICE_STATS);
	}
	return (features & VL_FEATURES) | VL_FORCED_FEATURES;
}

void vl_transport_init(struct vl_device *vl)
{
	vl->features = vl_features_sensible(vl->device_id, vl->features);
	vl->vdev.config = &vl_config_ops;
	vl->vdev.id.device = vl->device_id;
	vl->vdev.id.vendor = vl->vendor_id;
	vl->vdev.dev.parent = &vl->dev;
	vl->vdev.dev.release = vl_vdev_release;
}
