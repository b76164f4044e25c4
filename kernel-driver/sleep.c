// SPDX-License-Identifier: GPL-2.0-only
/*
 * System sleep.
 *
 * Both sides of a device are in the memory of this machine: the driver and its
 * queues, and the process that serves them. Memory survives every kind of
 * sleep, and processes are stopped before the first device is suspended and go
 * on after the last one has been resumed. So there is nothing to reset or to
 * restore: application, driver and process go on where they were.
 *
 * What would go wrong is asking. A driver, or a class above it such as ALSA's
 * PCMs, suspends its device by requests to it, and would ask a process that
 * cannot answer: virtio_snd waits a second for each of two messages a stream,
 * and the application loses what it has written. So the devices above a
 * loopback device are left out of suspending and resuming, like those whose
 * state the system keeps by other means.
 *
 * And nothing is begun that the adapter would have to answer while it cannot:
 * drivers are not probed from the time at which sleep is announced, when all
 * processes still run, until all run again; and time in which a process cannot
 * run is not counted against it. A driver that is being probed all the same has
 * its time, since the way to sleep waits for it, and is probed again afterwards
 * where it has failed.
 */
#include <linux/notifier.h>
#include <linux/pm.h>
#include <linux/suspend.h>

#include "compat.h"
#include "loopback.h"

/* Probing that was under way is waited for, not longer than this. */
#define VL_SLEEP_PROBE_TIMEOUT	(5 * HZ)

static DEFINE_SPINLOCK(vl_sleep_lock);
static DECLARE_WAIT_QUEUE_HEAD(vl_sleep_wait);
/* The three below: written under vl_sleep_lock. */
static bool vl_sleep_announced;
static unsigned int vl_sleep_count;
static unsigned int vl_probes;

/* Whether processes cannot be counted on to run. */
bool vl_sleep_near(void)
{
	/* Pairs with vl_sleep_announce(). */
	return smp_load_acquire(&vl_sleep_announced);
}

/* How often the system has woken up. */
unsigned int vl_sleep_wakeups(void)
{
	return READ_ONCE(vl_sleep_count);
}

/*
 * Whether processes could not be counted on to run, now or at some time since
 * vl_sleep_wakeups() has returned @wakeups.
 */
bool vl_sleep_since(unsigned int wakeups)
{
	return vl_sleep_near() || wakeups != vl_sleep_wakeups();
}

/* Returns false where this is no time to probe: life_work is queued later. */
bool vl_sleep_probe_begin(void)
{
	bool may;

	spin_lock(&vl_sleep_lock);
	may = !vl_sleep_announced;
	if (may)
		WRITE_ONCE(vl_probes, vl_probes + 1);
	spin_unlock(&vl_sleep_lock);
	return may;
}

void vl_sleep_probe_end(void)
{
	spin_lock(&vl_sleep_lock);
	WRITE_ONCE(vl_probes, vl_probes - 1);
	spin_unlock(&vl_sleep_lock);
	wake_up_all(&vl_sleep_wait);
}

static void vl_sleep_announce(bool announced)
{
	spin_lock(&vl_sleep_lock);
	if (!announced)
		WRITE_ONCE(vl_sleep_count, vl_sleep_count + 1);
	/* Who sees that sleep is over, in vl_sleep_since(), sees that it was. */
	smp_store_release(&vl_sleep_announced, announced);
	spin_unlock(&vl_sleep_lock);
}

/* Context: all processes run, before sleep as after it. */
static int vl_sleep_notify(struct notifier_block *block, unsigned long event,
			   void *data)
{
	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		vl_sleep_announce(true);
		vl_wait_event_timeout(vl_sleep_wait, !READ_ONCE(vl_probes),
				      VL_SLEEP_PROBE_TIMEOUT);
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		/* Before its end: afterwards a request may expire at once. */
		vl_device_prolong_all();
		vl_sleep_announce(false);
		vl_device_wake_all();
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block vl_sleep_block = {
	.notifier_call	= vl_sleep_notify,
};

int vl_sleep_register(void)
{
	return register_pm_notifier(&vl_sleep_block);
}

void vl_sleep_unregister(void)
{
	unregister_pm_notifier(&vl_sleep_block);
}

static int vl_sleep_leave_out(struct device *dev, void *leave_out)
{
	dev_pm_syscore_device(dev, *(bool *)leave_out);
	return device_for_each_child(dev, leave_out, vl_sleep_leave_out);
}

/*
 * A parent is prepared before its children, and completed after them, so they
 * see the same in both. That is also why their locks are not asked for, which
 * a task that waits for the adapter, and is frozen, may hold.
 */
static int vl_sleep_prepare(struct device *dev)
{
	bool leave_out = true;

	return device_for_each_child(dev, &leave_out, vl_sleep_leave_out);
}

static void vl_sleep_complete(struct device *dev)
{
	bool leave_out = false;

	device_for_each_child(dev, &leave_out, vl_sleep_leave_out);
}

const struct dev_pm_ops vl_sleep_ops = {
	.prepare	= vl_sleep_prepare,
	.complete	= vl_sleep_complete,
};
