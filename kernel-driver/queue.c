// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two eventfds of a queue: kick, from the driver to the process, and call,
 * by which the process interrupts the driver.
 */
#include <linux/bottom_half.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "compat.h"
#include "loopback.h"
#include "trace.h"

/*
 * The driver notifies the process.
 * Context: any, mostly under a lock of the driver; also from an interrupt,
 * that is from vring_interrupt() below, so no lock of the callback's path.
 */
bool vl_queue_notify(struct virtqueue *vq)
{
	struct vl_queue *queue = vq->priv;
	unsigned long flags;

	trace_vl_kick(queue);
	spin_lock_irqsave(&queue->kick_lock, flags);
	queue->kicks++;
	if (queue->kick)
		vl_eventfd_signal(queue->kick);
	else
		queue->kicked = true;
	spin_unlock_irqrestore(&queue->kick_lock, flags);
	return true;
}

/*
 * A callback may hand the device a buffer again for each that it gets back, as
 * those for events do. It would not end with a process on another CPU that is
 * as fast; so there is an end to the buffers that can be handed over, which is
 * VL_BUFFERS_A_CALL.
 */

/* Outside of an interrupt of ours 0; else 1 more than may still be mapped. */
static DEFINE_PER_CPU(unsigned int, vl_buffers_left);

/*
 * What is left to the interrupt that is asking, and changed by it alone, or
 * NULL outside of one. A worker shares its CPU, and is known by its task.
 */
static unsigned int *vl_call_buffers_left(struct vl_device *vl)
{
	u32 i;

	/* virtio_snd looks for events by itself at the end of its probe. */
	if (unlikely(READ_ONCE(vl->probing) == current) && in_task() &&
	    vl->device_id == VIRTIO_ID_SOUND)
		return &vl->probe_left;
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		return this_cpu_read(vl_buffers_left) ?
			       raw_cpu_ptr(&vl_buffers_left) : NULL;
	for (i = 0; i < vl->queue_count; i++)
		if (READ_ONCE(vl->queues[i].caller) == current)
			return &vl->queues[i].buffers_left;
	return NULL;
}

/*
 * Whether a buffer that is being mapped is one too many. A probe that asks has
 * not been flooded before. Context: any that maps buffers.
 */
bool vl_queue_floods(struct vl_device *vl, bool to_device)
{
	unsigned int *left = vl_call_buffers_left(vl);

	if (likely(!left))
		return false;
	if (to_device && left == &vl->probe_left)
		*left = VL_BUFFERS_A_CALL + 1;
	if (*left > 1) {
		--*left;
		return false;
	}
	dev_warn_ratelimited(&vl->dev,
			     "the process floods the driver: buffers of its queues are dropped\n");
	return true;
}

static void vl_queue_interrupt(struct vl_queue *queue)
{
	struct virtqueue *vq = READ_ONCE(queue->vq);

	trace_vl_call(queue);
	if (vq && !READ_ONCE(queue->muted) && !vl_unbind_mutes(queue))
		vring_interrupt(0, vq);
}

/*
 * A process that calls from two CPUs has this run on both: a work that is at
 * work may be queued again elsewhere. Drivers expect one interrupt at a time.
 */
static void vl_call_irq(struct irq_work *work)
{
	struct vl_queue *queue = container_of(work, struct vl_queue, call_irq);

	spin_lock(&queue->irq_lock);
	this_cpu_write(vl_buffers_left, VL_BUFFERS_A_CALL + 1);
	vl_queue_interrupt(queue);
	this_cpu_write(vl_buffers_left, 0);
	spin_unlock(&queue->irq_lock);
}

static void vl_call_work(struct work_struct *work)
{
	struct vl_queue *queue = container_of(work, struct vl_queue, call_work);

	queue->buffers_left = VL_BUFFERS_A_CALL + 1;
	WRITE_ONCE(queue->caller, current);
	/* As in a threaded interrupt handler. */
	local_bh_disable();
	vl_queue_interrupt(queue);
	local_bh_enable();
	WRITE_ONCE(queue->caller, NULL);
}

/*
 * The driver's callback does not run in the wake-up of the eventfd: it may
 * notify, and a notification from within an eventfd's wake-up is lost; and it
 * takes the driver's lock, under which an eventfd is signalled elsewhere. A
 * hard interrupt has neither problem and costs no context switch. With
 * PREEMPT_RT it would be a thread, and a worker is faster.
 */
void vl_queue_call(struct vl_queue *queue)
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		queue_work(system_highpri_wq, &queue->call_work);
	else
		irq_work_queue(&queue->call_irq);
}

/* What was called before is no longer in progress, on one CPU at least. */
void vl_queue_flush(struct vl_device *vl)
{
	u32 i;

	for (i = 0; i < vl->queue_count; i++) {
		if (IS_ENABLED(CONFIG_PREEMPT_RT))
			flush_work(&vl->queues[i].call_work);
		else
			irq_work_sync(&vl->queues[i].call_irq);
	}
}

/*
 * Afterwards, what was called before is no longer in progress. Of a work that
 * runs on two CPUs, irq_work_sync() waits for one; both have interrupts off.
 */
void vl_queue_synchronize(struct vl_device *vl)
{
	vl_queue_flush(vl);
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		synchronize_rcu();
}

/* Context: the lock of the eventfd's wait queue held, interrupts off. */
static int vl_call_wake(wait_queue_entry_t *wait, unsigned int mode, int sync,
			void *key)
{
	struct vl_queue *queue = container_of(wait, struct vl_queue, call_wait);
	__poll_t events = key_to_poll(key);
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(queue->call, &count);
		atomic64_inc(&queue->calls);
		/*
		 * A kick of a driver in its own interrupt, by an eventfd that
		 * is another queue's call, would make a ring without an end.
		 */
		if (IS_ENABLED(CONFIG_PREEMPT_RT) ||
		    !this_cpu_read(vl_buffers_left))
			vl_queue_call(queue);
	}
	if (events & EPOLLHUP) {
		/* Detaching takes the lock that is held here. */
		WRITE_ONCE(queue->call_hung_up, true);
		queue_work(vl_workqueue, &queue->vl->hangup_work);
	}
	return 0;
}

static void vl_call_poll(struct file *file, wait_queue_head_t *head,
			 poll_table *table)
{
	struct vl_queue *queue = container_of(table, struct vl_queue,
					      call_poll);

	add_wait_queue(head, &queue->call_wait);
}

/* Context: vl->eventfds held. */
static void vl_call_detach(struct vl_queue *queue)
{
	u64 count;

	if (!queue->call)
		return;
	eventfd_ctx_remove_wait_queue(queue->call, &queue->call_wait, &count);
	eventfd_ctx_put(queue->call);
	queue->call = NULL;
	WRITE_ONCE(queue->call_hung_up, false);
}

/* Context: vl->eventfds held. Takes over the reference to @ctx. */
static void vl_call_attach(struct vl_queue *queue, struct file *file,
			   struct eventfd_ctx *ctx)
{
	vl_call_detach(queue);
	if (!ctx)
		return;
	queue->call = ctx;
	vfs_poll(file, &queue->call_poll);
	/* The last interrupt may have been meant for the eventfd before. */
	vl_queue_call(queue);
}

/* Takes over the reference to @ctx. */
static void vl_kick_attach(struct vl_queue *queue, struct eventfd_ctx *ctx)
{
	struct eventfd_ctx *old;
	unsigned long flags;

	spin_lock_irqsave(&queue->kick_lock, flags);
	old = queue->kick;
	queue->kick = ctx;
	/* The reader of the old one may have died before it read the last. */
	if (old)
		queue->kicked = true;
	if (ctx && queue->kicked) {
		queue->kicked = false;
		vl_eventfd_signal(ctx);
	}
	spin_unlock_irqrestore(&queue->kick_lock, flags);
	if (old)
		eventfd_ctx_put(old);
}

/* What was kicked so far is for nobody. */
static void vl_kick_forget(struct vl_queue *queue)
{
	spin_lock_irq(&queue->kick_lock);
	queue->kicked = false;
	spin_unlock_irq(&queue->kick_lock);
}

static int vl_eventfds_replace(struct vl_queue *queue,
			       struct eventfd_ctx *kick, struct file *call_file,
			       struct eventfd_ctx *call)
{
	struct vl_device *vl = queue->vl;
	int err = 0;

	mutex_lock(&vl->eventfds);
	if (vl->accept_eventfds) {
		vl_kick_attach(queue, kick);
		vl_call_attach(queue, call_file, call);
		spin_lock(&vl->lock);
		if (call)
			vl->abandoned = false;
		spin_unlock(&vl->lock);
	} else {
		err = -ENXIO;
	}
	mutex_unlock(&vl->eventfds);
	return err;
}

int vl_queue_set_eventfds(struct vl_queue *queue, int kick_fd, int call_fd)
{
	struct eventfd_ctx *kick = NULL, *call = NULL;
	struct file *call_file = NULL;
	int err = 0;

	if (kick_fd >= 0)
		kick = eventfd_ctx_fdget(kick_fd);
	if (IS_ERR(kick))
		return PTR_ERR(kick);
	if (call_fd >= 0) {
		call_file = eventfd_fget(call_fd);
		if (IS_ERR(call_file)) {
			err = PTR_ERR(call_file);
			call_file = NULL;
			goto out;
		}
		call = eventfd_ctx_fileget(call_file);
	}
	/* One eventfd for both would interrupt the driver by its own kick. */
	if (kick && kick == call)
		err = -EINVAL;
	else
		err = vl_eventfds_replace(queue, kick, call_file, call);
out:
	if (err && kick)
		eventfd_ctx_put(kick);
	if (err && call)
		eventfd_ctx_put(call);
	if (call_file)
		fput(call_file);
	return err;
}

void vl_queue_accept_eventfds(struct vl_device *vl)
{
	mutex_lock(&vl->eventfds);
	vl->accept_eventfds = true;
	mutex_unlock(&vl->eventfds);
}

/* The driver has reset the device. Afterwards no callback is in progress. */
void vl_queue_detach_all(struct vl_device *vl)
{
	u32 i;

	mutex_lock(&vl->eventfds);
	vl->accept_eventfds = false;
	for (i = 0; i < vl->queue_count; i++) {
		struct vl_queue *queue = &vl->queues[i];

		vl_call_detach(queue);
		vl_kick_attach(queue, NULL);
	}
	mutex_unlock(&vl->eventfds);
	vl_queue_synchronize(vl);
	for (i = 0; i < vl->queue_count; i++)
		vl_kick_forget(&vl->queues[i]);
}

/*
 * virtio_console spins for an answer, with interrupts off. It does not where its
 * queues are broken, but they are for good: see vl_device_probe_again().
 * Context: vl->eventfds held, which keeps the queues; they are deleted once no
 * eventfd is accepted.
 */
static void vl_console_break(struct vl_device *vl)
{
	if (!vl->accept_eventfds || vl->device_id != VIRTIO_ID_CONSOLE)
		return;
	virtio_break_device(&vl->vdev);
	spin_lock(&vl->lock);
	WRITE_ONCE(vl->broken, true);
	spin_unlock(&vl->lock);
}

/*
 * Detach what was hung up, and see whether somebody is left to serve.
 * Context: vl->eventfds held.
 */
static void vl_calls_update(struct vl_device *vl)
{
	bool served = false;
	u32 i;

	for (i = 0; i < vl->queue_count; i++) {
		struct vl_queue *queue = &vl->queues[i];

		if (READ_ONCE(queue->call_hung_up))
			vl_call_detach(queue);
		if (queue->call)
			served = true;
	}
	if (served)
		return;
	spin_lock(&vl->lock);
	vl->abandoned = true;
	spin_unlock(&vl->lock);
	vl_console_break(vl);
}

/* Without a call eventfd, nobody serves the queues of a device left alone. */
void vl_queue_see_served(struct vl_device *vl)
{
	mutex_lock(&vl->eventfds);
	vl_calls_update(vl);
	mutex_unlock(&vl->eventfds);
	/* The next adapter may be there already. */
	vl_device_mend(vl);
}

void vl_queue_hangup_work(struct work_struct *work)
{
	vl_queue_see_served(container_of(work, struct vl_device, hangup_work));
}

/* START is over, and the driver goes on, one of several ports by asking. */
void vl_queue_driver_ok(struct vl_device *vl)
{
	if (vl->device_id != VIRTIO_ID_CONSOLE)
		return;
	mutex_lock(&vl->eventfds);
	vl_calls_update(vl);
	if (READ_ONCE(vl->dying))
		vl_console_break(vl);
	mutex_unlock(&vl->eventfds);
}

/* The device is being destroyed: a process that does not answer never will. */
void vl_queue_let_go(struct vl_device *vl)
{
	mutex_lock(&vl->eventfds);
	vl_console_break(vl);
	mutex_unlock(&vl->eventfds);
}

void vl_queue_init(struct vl_device *vl, u32 index, u32 max_size)
{
	struct vl_queue *queue = &vl->queues[index];

	queue->vl = vl;
	queue->index = index;
	queue->max_size = max_size;
	spin_lock_init(&queue->kick_lock);
	spin_lock_init(&queue->irq_lock);
	init_waitqueue_func_entry(&queue->call_wait, vl_call_wake);
	init_poll_funcptr(&queue->call_poll, vl_call_poll);
	init_irq_work(&queue->call_irq, vl_call_irq);
	INIT_WORK(&queue->call_work, vl_call_work);
}
