// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading a control's metadata (TLV), such as its scale in decibels.
 *
 * virtio_snd allocates the memory for the answer, waits for it for a second or
 * until the application gets a signal, and frees the memory. The message is
 * still the device's, which may answer later: into what belongs to somebody
 * else by then. So, of virtio_snd's function for that:
 *
 * - it is called in a kernel thread, which nothing disturbs. Of an application,
 *   no such message is sent; its card's controls get a function of ours when
 *   virtio_snd has been bound. The thread does not wait for the application's
 *   memory, which may be a file whose server never answers: nobody could end it.
 * - the answer is copied only while there is time enough left (answers.c).
 */
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <sound/control.h>
#include <sound/core.h>

#include "compat.h"
#include "loopback.h"

/* More than anybody's metadata has; virtio_snd allocates what is asked for. */
#define VL_TLV_MAX	SZ_64K
/* How often an application may take memory away that the answer is for. */
#define VL_TLV_TRIES	3

/* Of all cards: it is virtio_snd's, which stays while it is bound. */
static snd_kcontrol_tlv_rw_t *vl_tlv_original;

struct vl_tlv_read {
	struct work_struct work;
	struct mm_struct *mm;	/* of the application */
	struct snd_kcontrol *control;
	unsigned int size;
	unsigned int __user *tlv;
	int result;
};

static void vl_tlv_read_work(struct work_struct *work)
{
	struct vl_tlv_read *read = container_of(work, struct vl_tlv_read,
						work);

	kthread_use_mm(read->mm);
	pagefault_disable();
	read->result = READ_ONCE(vl_tlv_original)(read->control,
						  SNDRV_CTL_TLV_OP_READ,
						  read->size, read->tlv);
	pagefault_enable();
	kthread_unuse_mm(read->mm);
}

static int vl_tlv_read(struct vl_tlv_read *read)
{
	unsigned int tries;

	for (tries = 0; tries < VL_TLV_TRIES; tries++) {
		/* Brings the memory. */
		if (clear_user(read->tlv, read->size))
			return -EFAULT;
		INIT_WORK_ONSTACK(&read->work, vl_tlv_read_work);
		queue_work(vl_tlv_workqueue, &read->work);
		/* Until there is an answer, or virtio_snd gives up. */
		flush_work(&read->work);
		destroy_work_on_stack(&read->work);
		if (read->result != -EFAULT || fatal_signal_pending(current))
			break;
	}
	return read->result;
}

static int vl_tlv(struct snd_kcontrol *control, int op, unsigned int size,
		  unsigned int __user *tlv)
{
	struct vl_tlv_read read = {
		.mm = current->mm,
		.control = control,
		.size = min_t(unsigned int, size, VL_TLV_MAX),
		.tlv = tlv,
	};

	if (op == SNDRV_CTL_TLV_OP_READ && !(current->flags & PF_KTHREAD))
		return vl_tlv_read(&read);
	if (size > VL_TLV_MAX)
		return -EINVAL;
	/* What is written has been copied when the message is sent. */
	return READ_ONCE(vl_tlv_original)(control, op, size, tlv);
}

/*
 * A control with metadata that @vl's driver asks the device for. Others of the
 * card are the sound core's, for channel maps, or an application's.
 */
static bool vl_tlv_is_asked(struct vl_device *vl,
			    const struct snd_kcontrol *control)
{
	return control->private_data == vl->vdev.priv && control->count &&
	       control->vd[0].access & SNDRV_CTL_ELEM_ACCESS_TLV_CALLBACK &&
	       control->tlv.c != vl_tlv;
}

static int vl_tlv_guard_card(struct device *child, void *data)
{
	struct vl_device *vl = data;
	struct snd_kcontrol *control;
	struct snd_card *card;

	if (!vl_is_sound(child))
		return 0;
	card = dev_to_snd_card(child);
	down_write(&card->controls_rwsem);
	list_for_each_entry(control, &card->controls, list)
		if (vl_tlv_is_asked(vl, control)) {
			WRITE_ONCE(vl_tlv_original, control->tlv.c);
			control->tlv.c = vl_tlv;
		}
	up_write(&card->controls_rwsem);
	return 0;
}

/* Context: virtio_snd has been bound, with the device's lock held. */
void vl_tlv_guard(struct vl_device *vl)
{
	device_for_each_child(&vl->vdev.dev, vl, vl_tlv_guard_card);
}
