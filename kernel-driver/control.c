// SPDX-License-Identifier: GPL-2.0-only
/* /dev/virtio-loopback, the control file; its calls are in ioctl.c. */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "loopback.h"

static ssize_t vl_control_read(struct file *file, char __user *buffer,
			       size_t count, loff_t *position)
{
	struct vl_control *control = file->private_data;
	struct vl_device *vl = vl_control_attached(control);
	struct virtio_loopback_request request;
	int err;

	if (!vl)
		return -ENODEV;
	if (count < sizeof(request))
		return -EINVAL;
	for (;;) {
		err = vl_request_read(vl, &request);
		if (err != -EAGAIN || file->f_flags & O_NONBLOCK)
			break;
		err = wait_event_interruptible(control->wait,
					       vl_request_readable(vl) ||
					       READ_ONCE(vl->dying));
		if (err)
			break;
	}
	if (err)
		return err;
	if (copy_to_user(buffer, &request, sizeof(request))) {
		vl_request_unread(vl, request.id);
		return -EFAULT;
	}
	return sizeof(request);
}

static __poll_t vl_control_poll(struct file *file, poll_table *table)
{
	struct vl_control *control = file->private_data;
	struct vl_device *vl;
	__poll_t events = 0;

	poll_wait(file, &control->wait, table);
	vl = vl_control_attached(control);
	if (vl && vl_request_readable(vl))
		events |= EPOLLIN | EPOLLRDNORM;
	if (vl && READ_ONCE(vl->dying))
		events |= EPOLLHUP;
	return events;
}

static int vl_control_open(struct inode *inode, struct file *file)
{
	struct vl_control *control = kzalloc(sizeof(*control),
					     GFP_KERNEL_ACCOUNT);

	if (!control)
		return -ENOMEM;
	mutex_init(&control->mutex);
	init_waitqueue_head(&control->wait);
	control->file = file;
	file->private_data = control;
	return nonseekable_open(inode, file);
}

static int vl_control_release(struct inode *inode, struct file *file)
{
	struct vl_control *control = file->private_data;

	if (control->vl)
		vl_device_detach(control->vl, control);
	kfree(control);
	return 0;
}

static const struct file_operations vl_control_fops = {
	.owner		= THIS_MODULE,
	.open		= vl_control_open,
	.release	= vl_control_release,
	.read		= vl_control_read,
	.poll		= vl_control_poll,
	.unlocked_ioctl	= vl_control_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice vl_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "virtio-loopback",
	.fops	= &vl_control_fops,
	.mode	= 0600,
};

int vl_control_register(void)
{
	return misc_register(&vl_misc);
}

void vl_control_unregister(void)
{
	misc_deregister(&vl_misc);
}
