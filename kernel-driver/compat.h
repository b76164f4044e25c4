/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the driver is built for, 5.10 and
 * later, except the mapping of buffers, which is in dma.c.
 */
#ifndef VL_COMPAT_H
#define VL_COMPAT_H

#include <linux/eventfd.h>
#include <linux/freezer.h>
#include <linux/mm.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/virtio_ids.h>
#include <linux/wait.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif

/* struct virtqueue_info has replaced the three arrays of find_vqs(). */
#define VL_HAVE_VIRTQUEUE_INFO	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0))

/* virtio_config_ops has synchronize_cbs(), struct virtqueue has num_max. */
#define VL_HAVE_SYNCHRONIZE_CBS	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 0, 0))

/* virtio_ring knows what is in a queue without looking into its memory. */
#define VL_HAVE_PRIVATE_DESCS	(LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0))

/* Who changes a PCM's parameters says so; mended in stable kernels, too. */
#define VL_HAVE_BUFFER_ACCESSING					\
	(LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0) ||		\
	 (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 15, 33) &&		\
	  LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)) ||		\
	 (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 10, 110) &&		\
	  LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)))

/* The kernel's own note of a PCM's state, which no application has mapped. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#define vl_pcm_state(runtime)	((runtime)->state)
#else
#define vl_pcm_state(runtime)	((runtime)->status->state)
#endif

/* Not yet in 5.10. */
#ifndef VIRTIO_ID_SOUND
#define VIRTIO_ID_SOUND	25
#endif

static inline void vl_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

static inline void vl_timer_delete_sync(struct timer_list *timer)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	timer_delete_sync(timer);
#else
	del_timer_sync(timer);
#endif
}

static inline void vl_vm_flags_set(struct vm_area_struct *vma,
				   unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

static inline void vl_vm_flags_clear(struct vm_area_struct *vma,
				     unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

/*
 * Whether there is a mark where there is no page, as userfaultfd(2) makes them
 * in any file's mapping since 6.7 (PM_SCAN, UFFD_FEATURE_WP_ASYNC).
 */
static inline bool vl_fault_is_marked(const struct vm_fault *vmf)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	return vmf->flags & FAULT_FLAG_ORIG_PTE_VALID &&
	       !pte_none(vmf->orig_pte);
#else
	return false;
#endif
}

/*
 * Wait, killable and without holding up the freezer: a task that only a
 * frozen process could wake must be frozen with it, or suspending fails. It
 * may hold locks, of the device that is unbound for one, as one that waits for
 * a server does; nothing on the way to sleep takes them (sleep.c). But one that
 * probes is waited for there, and must not wait like this.
 * Returns 0 on timeout, a negative errno when killed, else the time left.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#define vl_wait_event_timeout(head, condition, timeout)			\
({									\
	long __ret = timeout;						\
	might_sleep();							\
	if (!___wait_cond_timeout(condition))				\
		__ret = ___wait_event(head,				\
				___wait_cond_timeout(condition),	\
				(TASK_KILLABLE | TASK_FREEZABLE_UNSAFE), 0, \
				timeout,				\
				__ret = schedule_timeout(__ret));	\
	__ret;								\
})
#else
#define vl_wait_event_timeout(head, condition, timeout)			\
({									\
	long __left;							\
	freezer_do_not_count();						\
	__left = wait_event_killable_timeout(head, condition, timeout);	\
	freezer_count_unsafe();						\
	__left;								\
})
#endif

#endif /* VL_COMPAT_H */
