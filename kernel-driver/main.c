// SPDX-License-Identifier: GPL-2.0-only
/* virtio-loopback: virtio devices for this very kernel, served by a process. */
#include <linux/module.h>
#include <linux/workqueue.h>

#include "loopback.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Unbound: an item may wait as long as somebody keeps a device open. */
struct workqueue_struct *vl_workqueue;
/* Its items wait for answers of devices, a second each; so they have their own. */
struct workqueue_struct *vl_tlv_workqueue;

static int __init vl_init(void)
{
	int err = -ENOMEM;

	vl_workqueue = alloc_workqueue("virtio-loopback", WQ_UNBOUND, 0);
	if (!vl_workqueue)
		return err;
	vl_tlv_workqueue = alloc_workqueue("virtio-loopback-tlv", WQ_UNBOUND,
					   0);
	if (!vl_tlv_workqueue)
		goto destroy_workqueue;
	err = vl_class_register();
	if (err)
		goto destroy_tlv_workqueue;
	err = vl_sleep_register();
	if (err)
		goto unregister_class;
	err = vl_control_register();
	if (err)
		goto unregister_sleep;
	return 0;

unregister_sleep:
	vl_sleep_unregister();
unregister_class:
	vl_class_unregister();
destroy_tlv_workqueue:
	destroy_workqueue(vl_tlv_workqueue);
destroy_workqueue:
	destroy_workqueue(vl_workqueue);
	return err;
}

/* No device is left: each holds the module. */
static void __exit vl_exit(void)
{
	vl_control_unregister();
	vl_sleep_unregister();
	destroy_workqueue(vl_workqueue);
	destroy_workqueue(vl_tlv_workqueue);
	vl_class_unregister();
}

module_init(vl_init);
module_exit(vl_exit);

MODULE_AUTHOR("virtio-loopback contributors");
MODULE_DESCRIPTION("Virtio devices for this kernel, served by a process");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
