// SPDX-License-Identifier: GPL-2.0-only
/*
 * The address space of a device. An address is an offset in the memory file:
 *
 *	page 0			never an address
 *	coherent		the queues
 *	bounce			the arena of bounce.c, always there
 *	window			ranges mapped in place by zero_copy.c
 *
 * Addresses are given out in atomic context, but a process may have a page of
 * the file mapped, and unmapping sleeps. So pages are taken away in two steps:
 * under the semaphore, which keeps faults out, the page leaves the index and
 * every mapping; then the address is free. The same holds for an address that
 * has nothing: a fault there is given the scratch page, and the address stays
 * busy until a work item has removed that page again.
 */
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/virtio_ring.h>

#include "loopback.h"

/* For what a driver allocates besides its queues. */
#define VL_COHERENT_SPARE_PAGES	16

/* A process that touches what is not there has its pages zapped this often. */
#define VL_ZAP_DELAY	(HZ / 100 + 1)

/* So many parts are taken out of all mappings one by one. */
#define VL_UNMAP_PARTS	16

void vl_memory_unmap(struct vl_memory *memory, unsigned long first,
		     unsigned long count)
{
	unmap_mapping_range(memory->inode->i_mapping,
			    (loff_t)first << PAGE_SHIFT,
			    (loff_t)count << PAGE_SHIFT, 1);
}

/*
 * Many parts of a file that many mappings have cost the product of both. After
 * the first few, the rest goes at once, with what lies between: that is mapped
 * again when it is touched.
 */
void vl_memory_unmap_part(struct vl_memory *memory, struct vl_unmap *unmap,
			  unsigned long first, unsigned long count)
{
	if (unmap->parts++ < VL_UNMAP_PARTS) {
		vl_memory_unmap(memory, first, count);
		return;
	}
	unmap->first = min(unmap->first, first);
	unmap->end = max(unmap->end, first + count);
}

void vl_memory_unmap_rest(struct vl_memory *memory, struct vl_unmap *unmap)
{
	if (unmap->first < unmap->end)
		vl_memory_unmap(memory, unmap->first,
				unmap->end - unmap->first);
}

/* Context: memory->sem held for writing, so that no bit of stale is new. */
void vl_memory_zap_stale(struct vl_memory *memory)
{
	struct vl_unmap unmap = VL_UNMAP_NONE;
	unsigned long first, end, flags;

	for (first = find_first_bit(memory->stale, memory->pages);
	     first < memory->pages;
	     first = find_next_bit(memory->stale, memory->pages, end)) {
		end = find_next_zero_bit(memory->stale, memory->pages, first);
		vl_memory_unmap_part(memory, &unmap, first, end - first);
	}
	vl_memory_unmap_rest(memory, &unmap);

	spin_lock_irqsave(&memory->lock, flags);
	bitmap_andnot(memory->busy, memory->busy, memory->stale,
		      memory->pages);
	bitmap_zero(memory->stale, memory->pages);
	spin_unlock_irqrestore(&memory->lock, flags);
}

static void vl_memory_zap_work(struct work_struct *work)
{
	struct vl_memory *memory = container_of(to_delayed_work(work),
						struct vl_memory, zap_work);

	down_write(&memory->sem);
	vl_memory_zap_stale(memory);
	up_write(&memory->sem);
}

/*
 * The page at an offset, for the fault handler; without a new reference.
 * Context: memory->sem held for reading until the page has been inserted.
 */
struct page *vl_memory_fault(struct vl_device *vl, unsigned long pgoff)
{
	struct vl_memory *memory = &vl->memory;
	unsigned long flags;
	struct page *page;

	spin_lock_irqsave(&memory->lock, flags);
	page = memory->index[pgoff];
	if (!page) {
		page = memory->scratch;
		__set_bit(pgoff, memory->stale);
		__set_bit(pgoff, memory->busy);
		queue_delayed_work(vl_workqueue, &memory->zap_work,
				   VL_ZAP_DELAY);
	}
	spin_unlock_irqrestore(&memory->lock, flags);
	return page;
}

/*
 * Whether a process may write to a page that it has mapped. The driver's part
 * of a queue can only be read: virtio_ring goes by the descriptors it finds
 * there, so that one who could write to them could keep it going in circles,
 * with interrupts off, or have it unmap what is in use. The device's part, the
 * used ring, starts on a page of its own.
 *
 * Pages of no queue belong to one that comes or goes, which does not take long.
 */
enum vl_write vl_memory_write(struct vl_device *vl, const struct page *page,
			      unsigned long pgoff)
{
	enum vl_write write = VL_WRITE_LATER;
	u64 addr = (u64)pgoff << PAGE_SHIFT;
	u32 i;

	if (page == vl->memory.scratch || pgoff >= vl->memory.bounce_start)
		return VL_WRITE_ALLOWED;

	spin_lock(&vl->lock);
	for (i = 0; i < vl->queue_count; i++) {
		struct vl_queue *queue = &vl->queues[i];
		u64 end = queue->desc_addr + vring_size(queue->size, PAGE_SIZE);

		if (queue->size && addr >= queue->desc_addr && addr < end)
			write = addr < queue->device_addr ? VL_WRITE_REFUSED :
							    VL_WRITE_ALLOWED;
	}
	spin_unlock(&vl->lock);
	return write;
}

/*
 * Take @want free pages out of [start, start + count).
 * Context: memory->lock held. Returns the first page or -ENOSPC.
 */
long vl_memory_find(struct vl_memory *memory, unsigned long start,
		    unsigned long count, unsigned long want)
{
	unsigned long first;

	first = bitmap_find_next_zero_area(memory->busy, start + count, start,
					   want, 0);
	if (first + want > start + count)
		return -ENOSPC;
	bitmap_set(memory->busy, first, want);
	return first;
}

void *vl_coherent_alloc(struct vl_device *vl, size_t size, dma_addr_t *addr,
			gfp_t gfp)
{
	struct vl_memory *memory = &vl->memory;
	unsigned long i, count = PAGE_ALIGN(size) >> PAGE_SHIFT;
	unsigned long flags;
	void *vaddr;
	long first;

	if (!count || count > memory->coherent_count ||
	    !gfpflags_allow_blocking(gfp))
		return NULL;
	gfp &= ~(__GFP_COMP | __GFP_HIGHMEM | __GFP_DMA | __GFP_DMA32);
	vaddr = alloc_pages_exact(size, gfp | __GFP_ZERO);
	if (!vaddr)
		return NULL;

	down_write(&memory->sem);
	vl_memory_zap_stale(memory);
	spin_lock_irqsave(&memory->lock, flags);
	first = vl_memory_find(memory, memory->coherent_start,
			       memory->coherent_count, count);
	for (i = 0; first >= 0 && i < count; i++)
		memory->index[first + i] = virt_to_page(vaddr + i * PAGE_SIZE);
	spin_unlock_irqrestore(&memory->lock, flags);
	up_write(&memory->sem);

	if (first < 0) {
		free_pages_exact(vaddr, size);
		return NULL;
	}
	*addr = (dma_addr_t)first << PAGE_SHIFT;
	return vaddr;
}

void vl_coherent_free(struct vl_device *vl, size_t size, void *vaddr,
		      dma_addr_t addr)
{
	struct vl_memory *memory = &vl->memory;
	unsigned long first = addr >> PAGE_SHIFT;
	unsigned long i, count = PAGE_ALIGN(size) >> PAGE_SHIFT;
	unsigned long flags;

	down_write(&memory->sem);
	spin_lock_irqsave(&memory->lock, flags);
	for (i = 0; i < count; i++)
		memory->index[first + i] = NULL;
	spin_unlock_irqrestore(&memory->lock, flags);

	vl_memory_unmap(memory, first, count);

	spin_lock_irqsave(&memory->lock, flags);
	bitmap_clear(memory->busy, first, count);
	spin_unlock_irqrestore(&memory->lock, flags);
	up_write(&memory->sem);

	/* A page that the process has pinned lives on, as its own. */
	free_pages_exact(vaddr, size);
}

static void vl_memory_lay_out(struct vl_device *vl, size_t bounce_size,
			      size_t zero_copy_size)
{
	struct vl_memory *memory = &vl->memory;
	size_t coherent = 0;
	u32 i;

	for (i = 0; i < vl->queue_count; i++)
		coherent += PAGE_ALIGN(vring_size(vl->queues[i].max_size,
						  PAGE_SIZE));
	memory->coherent_start = 1;
	memory->coherent_count = (coherent >> PAGE_SHIFT) +
				 VL_COHERENT_SPARE_PAGES;
	memory->bounce_start = memory->coherent_start + memory->coherent_count;
	memory->bounce_count = bounce_size >> PAGE_SHIFT;
	memory->window_start = memory->bounce_start + memory->bounce_count;
	/* Twice what may be mapped: addresses rest until they are zapped. */
	memory->window_count = 2 * (zero_copy_size >> PAGE_SHIFT);
	memory->pages = memory->window_start + memory->window_count;
}

static int vl_memory_fill_bounce(struct vl_device *vl)
{
	struct vl_memory *memory = &vl->memory;
	unsigned long i;
	int err;

	err = vl_bounce_init(vl, memory->bounce_count << PAGE_SHIFT);
	if (err)
		return err;
	for (i = 0; i < memory->bounce_count; i++)
		memory->index[memory->bounce_start + i] =
			vmalloc_to_page(vl->bounce.arena + i * PAGE_SIZE);
	bitmap_set(memory->busy, memory->bounce_start, memory->bounce_count);
	return 0;
}

/* On failure, vl_memory_destroy() cleans up. */
int vl_memory_init(struct vl_device *vl, size_t bounce_size,
		   size_t zero_copy_size)
{
	struct vl_memory *memory = &vl->memory;
	int err;

	init_rwsem(&memory->sem);
	spin_lock_init(&memory->lock);
	INIT_DELAYED_WORK(&memory->zap_work, vl_memory_zap_work);
	vl_memory_lay_out(vl, bounce_size, zero_copy_size);

	memory->index = kvcalloc(memory->pages, sizeof(*memory->index),
				 GFP_KERNEL_ACCOUNT);
	memory->busy = bitmap_zalloc(memory->pages, GFP_KERNEL_ACCOUNT);
	memory->stale = bitmap_zalloc(memory->pages, GFP_KERNEL_ACCOUNT);
	memory->scratch = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!memory->index || !memory->busy || !memory->stale ||
	    !memory->scratch)
		return -ENOMEM;

	err = vl_memory_fill_bounce(vl);
	if (!err)
		err = vl_zero_copy_init(vl, zero_copy_size);
	if (!err)
		err = vl_memory_file_init(vl);
	return err;
}

/* Context: no memory file is open any more, and no driver is there. */
void vl_memory_destroy(struct vl_device *vl)
{
	struct vl_memory *memory = &vl->memory;

	if (memory->index)
		cancel_delayed_work_sync(&memory->zap_work);
	vl_zero_copy_destroy(vl);
	vl_bounce_destroy(vl);
	vl_memory_file_destroy(vl);
	if (memory->scratch)
		__free_page(memory->scratch);
	bitmap_free(memory->stale);
	bitmap_free(memory->busy);
	kvfree(memory->index);
}
