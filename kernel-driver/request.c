// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests to the adapter, their answers, and what happens without one.
 *
 * A request is in vl->requests from when it is made to when it is answered or
 * given up. It belongs to the task that waits for it, if any; an unattended
 * one, the START after an ATTACH, is freed as it ends and expires in a work
 * item. Nobody waits longer than the times below, or after a fatal signal; time
 * in which the system sleeps, and the adapter with it, does not count, but for a
 * driver that is being probed: the system does not sleep before that has ended.
 */
#include <linux/bits.h>
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "compat.h"
#include "loopback.h"
#include "trace.h"

#define VL_START_TIMEOUT	(5 * HZ)
#define VL_STOP_TIMEOUT		(2 * HZ)
#define VL_CONFIG_TIMEOUT	(2 * HZ)

#define VL_STARTS		BIT(VIRTIO_LOOPBACK_REQUEST_START)
#define VL_STOPS		BIT(VIRTIO_LOOPBACK_REQUEST_STOP)
#define VL_CONFIG_WRITES	BIT(VIRTIO_LOOPBACK_REQUEST_CONFIG_WRITE)

struct vl_request {
	struct list_head entry;
	struct virtio_loopback_request message;
	unsigned long expires;	/* where nobody waits */
	bool attended;
	bool was_read;
	bool done;
};

/* Context: vl->lock held. An unattended request is gone afterwards. */
static void vl_request_end(struct vl_device *vl, struct vl_request *request,
			   int status)
{
	trace_vl_request(vl, request->message.id, request->message.type,
			 status);
	list_del(&request->entry);
	if (status == -ETIMEDOUT)
		atomic64_inc(&vl->counters.request_timeouts);
	if (request->message.type == VIRTIO_LOOPBACK_REQUEST_START) {
		vl->start_pending = false;
		vl->started = !status;
		if (!status &&
		    request->message.flags & VIRTIO_LOOPBACK_START_RESUME)
			atomic64_inc(&vl->counters.restarts);
	}
	if (request->attended) {
		WRITE_ONCE(request->done, true);
		wake_up_all(&vl->wait);
	} else {
		kfree(request);
	}
}

/* Those of some types: a bit for each. Context: vl->lock held. */
static void vl_requests_end(struct vl_device *vl, u32 types, int status)
{
	struct vl_request *request, *next;

	list_for_each_entry_safe(request, next, &vl->requests, entry)
		if (types & BIT(request->message.type))
			vl_request_end(vl, request, status);
}

static struct vl_request *vl_request_new(u32 type, bool attended)
{
	struct vl_request *request;

	/* Nobody could be told that the adapter will not be asked. */
	request = kzalloc(sizeof(*request), GFP_KERNEL | __GFP_NOFAIL);
	request->message.type = type;
	request->attended = attended;
	return request;
}

/*
 * Context: vl->lock held. Returns false where there is nobody to ask; the
 * request is the caller's then.
 */
static bool vl_request_queue(struct vl_device *vl, struct vl_request *request)
{
	if (!vl->control)
		return false;
	request->message.id = ++vl->last_request_id;
	list_add_tail(&request->entry, &vl->requests);
	atomic64_inc(&vl->counters.requests);
	trace_vl_request(vl, request->message.id, request->message.type,
			 -EINPROGRESS);
	wake_up_interruptible_poll(&vl->control->wait, EPOLLIN);
	return true;
}

/* Returns as vl_wait_event_timeout() does; time asleep does not count. */
static long vl_request_wait_awake(struct vl_device *vl,
				  const struct vl_request *request,
				  long timeout)
{
	unsigned int wakeups;
	long left;

	do {
		wakeups = vl_sleep_wakeups();
		left = vl_wait_event_timeout(vl->wait, READ_ONCE(request->done),
					     timeout);
	} while (!left && vl_sleep_since(wakeups));
	return left;
}

/* Context: vl->lock held. It has its time from now on, where nobody waits. */
static void vl_request_expire_later(struct vl_device *vl,
				    struct vl_request *request)
{
	request->expires = jiffies + VL_START_TIMEOUT;
	mod_delayed_work(vl_workqueue, &vl->expire_work, VL_START_TIMEOUT);
}

/* Wait for the answer to a request that was queued, and free it. */
static void vl_request_wait(struct vl_device *vl, struct vl_request *request,
			    long timeout)
{
	unsigned int wakeups = vl_sleep_wakeups();
	long left;

	if (READ_ONCE(vl->probing) == current)
		left = wait_event_killable_timeout(vl->wait,
						   READ_ONCE(request->done),
						   timeout);
	else
		left = vl_request_wait_awake(vl, request, timeout);
	spin_lock(&vl->lock);
	if (!request->done && !left && vl_sleep_since(wakeups) &&
	    request->message.type == VIRTIO_LOOPBACK_REQUEST_START) {
		/* Nobody waits any more; it can be answered after the sleep. */
		request->attended = false;
		vl_request_expire_later(vl, request);
		request = NULL;
	} else if (!request->done) {
		vl_request_end(vl, request, left < 0 ? -EINTR : -ETIMEDOUT);
	}
	spin_unlock(&vl->lock);
	kfree(request);
}

/*
 * Announce the running queues. DRIVER_OK waits for the answer, so that the
 * driver's first requests are not sent into the void; ATTACH does not, and has
 * nothing to announce that DRIVER_OK just has, or will when the driver begins
 * anew.
 */
void vl_request_start(struct vl_device *vl, bool wait)
{
	struct vl_request *request;
	bool queued = false;

	request = vl_request_new(VIRTIO_LOOPBACK_REQUEST_START, wait);
	spin_lock(&vl->lock);
	if (!vl->dying && vl->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	    (wait || (!vl->start_pending && !vl->broken))) {
		vl_requests_end(vl, VL_STARTS, -ECANCELED);
		request->message.start.features = vl->driver_features;
		if (vl->used)
			request->message.flags = VIRTIO_LOOPBACK_START_RESUME;
		queued = vl_request_queue(vl, request);
		vl->start_pending = queued;
		vl->started = false;
		if (queued && !wait)
			vl_request_expire_later(vl, request);
	}
	spin_unlock(&vl->lock);

	if (!queued)
		kfree(request);
	else if (wait)
		vl_request_wait(vl, request, VL_START_TIMEOUT);
}

static void vl_request_expire_work(struct work_struct *work)
{
	struct vl_device *vl = container_of(to_delayed_work(work),
					    struct vl_device, expire_work);
	struct vl_request *request, *next;

	if (vl_sleep_near())
		return;	/* until vl_request_prolong() */
	spin_lock(&vl->lock);
	list_for_each_entry_safe(request, next, &vl->requests, entry)
		if (!request->attended &&
		    time_after_eq(jiffies, request->expires))
			vl_request_end(vl, request, -ETIMEDOUT);
	spin_unlock(&vl->lock);
}

/* The system has slept: the adapter has its time from now on. */
void vl_request_prolong(struct vl_device *vl)
{
	struct vl_request *request;

	spin_lock(&vl->lock);
	list_for_each_entry(request, &vl->requests, entry)
		vl_request_expire_later(vl, request);
	spin_unlock(&vl->lock);
}

/*
 * The driver has reset the device: its queues are freed when this returns, so
 * give the process time to let go of them.
 */
void vl_request_stop(struct vl_device *vl)
{
	struct vl_request *request;
	bool queued = false;

	request = vl_request_new(VIRTIO_LOOPBACK_REQUEST_STOP, true);
	spin_lock(&vl->lock);
	vl_requests_end(vl, VL_STARTS, -ECANCELED);
	vl->started = false;
	if (vl->used)
		queued = vl_request_queue(vl, request);
	vl->stopping = queued;
	spin_unlock(&vl->lock);

	if (queued)
		vl_request_wait(vl, request, VL_STOP_TIMEOUT);
	else
		kfree(request);

	spin_lock(&vl->lock);
	vl->stopping = false;
	vl->used = false;
	spin_unlock(&vl->lock);
}

void vl_request_config_write(struct vl_device *vl, u32 offset,
			     const void *data, u32 length)
{
	struct vl_request *request;
	bool queued;

	request = vl_request_new(VIRTIO_LOOPBACK_REQUEST_CONFIG_WRITE, true);
	request->message.config_write.offset = offset;
	request->message.config_write.length = length;
	memcpy(request->message.config_write.data, data, length);
	spin_lock(&vl->lock);
	queued = !vl->dying && vl_request_queue(vl, request);
	spin_unlock(&vl->lock);

	if (queued)
		vl_request_wait(vl, request, VL_CONFIG_TIMEOUT);
	else
		kfree(request);
}

/* Context: vl->lock held. Nobody is there, or will be, to answer. */
void vl_request_abandon(struct vl_device *vl)
{
	vl_requests_end(vl, VL_STARTS | VL_STOPS | VL_CONFIG_WRITES,
			-ENOTCONN);
}

/* Context: vl->lock held. The device is being destroyed; STOP still counts. */
void vl_request_cancel(struct vl_device *vl)
{
	vl_requests_end(vl, VL_STARTS | VL_CONFIG_WRITES, -ESHUTDOWN);
}

/* Context: vl->lock held. */
static struct vl_request *vl_request_unread_first(struct vl_device *vl)
{
	struct vl_request *request;

	list_for_each_entry(request, &vl->requests, entry)
		if (!request->was_read)
			return request;
	return NULL;
}

bool vl_request_readable(struct vl_device *vl)
{
	bool readable;

	spin_lock(&vl->lock);
	readable = vl_request_unread_first(vl);
	spin_unlock(&vl->lock);
	return readable;
}

int vl_request_read(struct vl_device *vl, struct virtio_loopback_request *out)
{
	struct vl_request *request;
	int err = -EAGAIN;

	spin_lock(&vl->lock);
	request = vl_request_unread_first(vl);
	if (request) {
		*out = request->message;
		request->was_read = true;
		if (out->type == VIRTIO_LOOPBACK_REQUEST_START)
			vl->used = true;
		err = 0;
	} else if (vl->dying) {
		err = -ESHUTDOWN;
	}
	spin_unlock(&vl->lock);
	return err;
}

/* Context: vl->lock held. */
static struct vl_request *vl_request_find(struct vl_device *vl, u64 id)
{
	struct vl_request *request;

	list_for_each_entry(request, &vl->requests, entry)
		if (request->was_read && request->message.id == id)
			return request;
	return NULL;
}

/* The reader could not be given the request. */
void vl_request_unread(struct vl_device *vl, u64 id)
{
	struct vl_request *request;

	spin_lock(&vl->lock);
	request = vl_request_find(vl, id);
	if (request) {
		request->was_read = false;
		/* For another reader, who went to sleep meanwhile. */
		if (vl->control)
			wake_up_interruptible_poll(&vl->control->wait, EPOLLIN);
	}
	spin_unlock(&vl->lock);
}

int vl_request_answer(struct vl_device *vl, u64 id, s32 status)
{
	struct vl_request *request;

	if (status > 0 || status < -MAX_ERRNO)
		return -EINVAL;
	spin_lock(&vl->lock);
	request = vl_request_find(vl, id);
	if (request)
		vl_request_end(vl, request, status);
	spin_unlock(&vl->lock);
	return request ? 0 : -ENOENT;
}

void vl_request_init(struct vl_device *vl)
{
	INIT_LIST_HEAD(&vl->requests);
	init_waitqueue_head(&vl->wait);
	INIT_DELAYED_WORK(&vl->expire_work, vl_request_expire_work);
}
