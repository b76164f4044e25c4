// SPDX-License-Identifier: GPL-2.0-only
/*
 * Zero copy: the driver's own buffer pages, mapped in place.
 *
 * A mapping is kept after the driver has given it up, because the same pages
 * come again: a sound stream cycles through its periods. What is kept is keyed
 * by the whole run of pages, not by page: a buffer that spans pages needs them
 * one after the other, and the next buffer may share its first page with it.
 *
 * A range holds a reference to each page. A page that the driver has freed is
 * therefore nobody else's before it has left every mapping. Ranges that have
 * been idle for a while are removed from a work item, since unmapping sleeps.
 * A timer looks for them: a card that plays, whose ranges are never idle for
 * long, does not have a kernel thread woken for nothing.
 */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "loopback.h"

/* Idle ranges are removed when this old, all that are so at once this often. */
#define VL_EVICT_INTERVAL	HZ
#define VL_EVICT_AGE		(3 * HZ)

struct vl_range {
	struct rb_node node;
	struct list_head entry;	/* in vl_zero_copy.idle while not active */
	unsigned long pfn;
	unsigned long count;
	unsigned long first;	/* page of the address space */
	unsigned long last_used;	/* while idle: since then */
	unsigned int active;
};

/* Context: memory.lock held. Where there is no such range, *@link is NULL. */
static struct vl_range *vl_range_find(struct vl_zero_copy *zc,
				      unsigned long pfn, unsigned long count,
				      struct rb_node ***link,
				      struct rb_node **parent)
{
	*link = &zc->by_pfn.rb_node;
	*parent = NULL;
	while (**link) {
		struct vl_range *range = rb_entry(**link, struct vl_range,
						  node);

		*parent = **link;
		if (pfn < range->pfn ||
		    (pfn == range->pfn && count < range->count))
			*link = &(*parent)->rb_left;
		else if (pfn > range->pfn || count > range->count)
			*link = &(*parent)->rb_right;
		else
			return range;
	}
	return NULL;
}

/*
 * Whole pages of a driver, as vmalloc() gives them. A page of the slab or of a
 * larger allocation may hold something else too; a page of a file or a process
 * has an owner who may take it back. Pages that were allocated several at once
 * have one count, that of the first.
 */
static bool vl_page_eligible(struct page *page)
{
	return page_count(page) && !PageSlab(page) && !PageCompound(page) &&
	       !PageReserved(page) && !page->mapping;
}

bool vl_pages_eligible(unsigned long pfn, unsigned long count)
{
	for (; count; count--, pfn++)
		if (!pfn_valid(pfn) || !vl_page_eligible(pfn_to_page(pfn)))
			return false;
	return true;
}

/* Context: memory.lock held. */
static struct vl_range *vl_range_new(struct vl_device *vl, unsigned long pfn,
				     unsigned long count)
{
	struct vl_memory *memory = &vl->memory;
	struct vl_zero_copy *zc = &vl->zero_copy;
	struct vl_range *range;
	unsigned long i;
	long first;

	if (zc->pages + count > zc->max_pages)
		return NULL;
	range = kzalloc(sizeof(*range), GFP_ATOMIC | __GFP_NOWARN);
	if (!range)
		return NULL;
	first = vl_memory_find(memory, memory->window_start,
			       memory->window_count, count);
	if (first < 0) {
		kfree(range);
		return NULL;
	}
	range->pfn = pfn;
	range->count = count;
	range->first = first;
	for (i = 0; i < count; i++) {
		struct page *page = pfn_to_page(pfn + i);

		get_page(page);
		memory->index[first + i] = page;
	}
	zc->by_page[first - memory->window_start] = range;
	WRITE_ONCE(zc->pages, zc->pages + count);
	INIT_LIST_HEAD(&range->entry);
	return range;
}

/* Context: memory.lock held. */
static struct vl_range *vl_zero_copy_oldest(struct vl_zero_copy *zc)
{
	return list_first_entry_or_null(&zc->idle, struct vl_range, entry);
}

/* Context: memory.lock held. */
static bool vl_zero_copy_any_old(struct vl_zero_copy *zc)
{
	struct vl_range *oldest = vl_zero_copy_oldest(zc);

	return oldest && time_after(jiffies, oldest->last_used + VL_EVICT_AGE);
}

/*
 * Look again when the oldest range that is idle now may go, if there is one.
 * Context: memory.lock held.
 */
static void vl_zero_copy_age_later(struct vl_zero_copy *zc)
{
	struct vl_range *oldest = vl_zero_copy_oldest(zc);
	unsigned long soonest = jiffies + VL_EVICT_INTERVAL;
	unsigned long when;

	if (!oldest)
		return;
	when = oldest->last_used + VL_EVICT_AGE + 1;
	mod_timer(&zc->age_timer, time_before(when, soonest) ? soonest : when);
}

static void vl_zero_copy_age(struct timer_list *timer)
{
	struct vl_device *vl = container_of(timer, struct vl_device,
					    zero_copy.age_timer);
	struct vl_zero_copy *zc = &vl->zero_copy;
	unsigned long flags;

	spin_lock_irqsave(&vl->memory.lock, flags);
	if (vl_zero_copy_any_old(zc))
		queue_work(vl_workqueue, &zc->evict_work);
	else
		vl_zero_copy_age_later(zc);
	spin_unlock_irqrestore(&vl->memory.lock, flags);
}

/*
 * Map a buffer in place. Returns false where that cannot be: the caller then
 * takes a bounce slot.
 */
bool vl_zero_copy_map(struct vl_device *vl, struct page *page,
		      unsigned long offset, size_t size, dma_addr_t *addr)
{
	struct vl_zero_copy *zc = &vl->zero_copy;
	unsigned long pfn = page_to_pfn(page) + (offset >> PAGE_SHIFT);
	struct rb_node **link, *parent;
	struct vl_range *range;
	unsigned long count, flags;

	offset = offset_in_page(offset);
	count = PAGE_ALIGN(offset + size) >> PAGE_SHIFT;
	if (!zc->max_pages || !size || !vl_pages_eligible(pfn, count))
		return false;

	spin_lock_irqsave(&vl->memory.lock, flags);
	range = vl_range_find(zc, pfn, count, &link, &parent);
	if (!range) {
		range = vl_range_new(vl, pfn, count);
		if (range) {
			rb_link_node(&range->node, parent, link);
			rb_insert_color(&range->node, &zc->by_pfn);
		} else {
			atomic64_inc(&vl->counters.zero_copy_full);
			zc->pressure = !list_empty(&zc->idle);
			if (zc->pressure)
				queue_work(vl_workqueue, &zc->evict_work);
		}
	}
	if (range) {
		range->active++;
		list_del_init(&range->entry);
		*addr = ((dma_addr_t)range->first << PAGE_SHIFT) + offset;
	}
	spin_unlock_irqrestore(&vl->memory.lock, flags);
	return range;
}

void vl_zero_copy_unmap(struct vl_device *vl, dma_addr_t addr)
{
	struct vl_memory *memory = &vl->memory;
	struct vl_zero_copy *zc = &vl->zero_copy;
	unsigned long page = addr >> PAGE_SHIFT;
	struct vl_range *range = NULL;
	unsigned long flags;

	spin_lock_irqsave(&memory->lock, flags);
	if (page < memory->pages)
		range = zc->by_page[page - memory->window_start];
	if (range && range->active && !--range->active) {
		range->last_used = jiffies;
		list_add_tail(&range->entry, &zc->idle);
		if (!timer_pending(&zc->age_timer))
			vl_zero_copy_age_later(zc);
	}
	spin_unlock_irqrestore(&memory->lock, flags);
}

/* Context: memory.lock held, memory.sem held for writing. */
static void vl_range_withdraw(struct vl_device *vl, struct vl_range *range,
			      struct list_head *withdrawn)
{
	struct vl_memory *memory = &vl->memory;
	struct vl_zero_copy *zc = &vl->zero_copy;
	unsigned long i;

	rb_erase(&range->node, &zc->by_pfn);
	zc->by_page[range->first - memory->window_start] = NULL;
	WRITE_ONCE(zc->pages, zc->pages - range->count);
	for (i = 0; i < range->count; i++)
		memory->index[range->first + i] = NULL;
	list_move_tail(&range->entry, withdrawn);
}

/* Context: memory.sem held for writing. */
static void vl_ranges_free(struct vl_device *vl, struct list_head *withdrawn)
{
	struct vl_memory *memory = &vl->memory;
	struct vl_range *range, *next;
	struct vl_unmap unmap = VL_UNMAP_NONE;
	unsigned long i, flags;

	/* Out of all mappings first; then page and address are free. */
	list_for_each_entry(range, withdrawn, entry)
		vl_memory_unmap_part(memory, &unmap, range->first,
				     range->count);
	vl_memory_unmap_rest(memory, &unmap);
	list_for_each_entry_safe(range, next, withdrawn, entry) {
		for (i = 0; i < range->count; i++)
			put_page(pfn_to_page(range->pfn + i));
		spin_lock_irqsave(&memory->lock, flags);
		bitmap_clear(memory->busy, range->first, range->count);
		spin_unlock_irqrestore(&memory->lock, flags);
		kfree(range);
	}
}

static void vl_zero_copy_evict_work(struct work_struct *work)
{
	struct vl_device *vl = container_of(work, struct vl_device,
					    zero_copy.evict_work);
	struct vl_zero_copy *zc = &vl->zero_copy;
	struct vl_range *range, *next;
	LIST_HEAD(withdrawn);
	unsigned long flags;

	down_write(&vl->memory.sem);
	spin_lock_irqsave(&vl->memory.lock, flags);
	list_for_each_entry_safe(range, next, &zc->idle, entry) {
		bool wanted = zc->pressure && zc->pages > zc->max_pages / 2;

		if (!wanted && !vl_zero_copy_any_old(zc))
			break;
		vl_range_withdraw(vl, range, &withdrawn);
	}
	zc->pressure = false;
	vl_zero_copy_age_later(zc);
	spin_unlock_irqrestore(&vl->memory.lock, flags);
	vl_ranges_free(vl, &withdrawn);
	up_write(&vl->memory.sem);
}

/* The queues go, and with them whatever was mapped for them. */
void vl_zero_copy_release_all(struct vl_device *vl)
{
	struct vl_zero_copy *zc = &vl->zero_copy;
	struct rb_node *node;
	LIST_HEAD(withdrawn);
	unsigned long flags;

	down_write(&vl->memory.sem);
	spin_lock_irqsave(&vl->memory.lock, flags);
	while ((node = rb_first(&zc->by_pfn)))
		vl_range_withdraw(vl, rb_entry(node, struct vl_range, node),
				  &withdrawn);
	spin_unlock_irqrestore(&vl->memory.lock, flags);
	vl_ranges_free(vl, &withdrawn);
	up_write(&vl->memory.sem);
}

int vl_zero_copy_init(struct vl_device *vl, size_t size)
{
	struct vl_zero_copy *zc = &vl->zero_copy;

	zc->by_pfn = RB_ROOT;
	INIT_LIST_HEAD(&zc->idle);
	INIT_WORK(&zc->evict_work, vl_zero_copy_evict_work);
	timer_setup(&zc->age_timer, vl_zero_copy_age, 0);
	if (!size)
		return 0;
	zc->by_page = kvcalloc(vl->memory.window_count, sizeof(*zc->by_page),
			       GFP_KERNEL_ACCOUNT);
	if (!zc->by_page)
		return -ENOMEM;
	zc->max_pages = size >> PAGE_SHIFT;
	return 0;
}

void vl_zero_copy_destroy(struct vl_device *vl)
{
	if (!vl->zero_copy.by_page)
		return;
	/* No range is left: neither of these starts the other again. */
	vl_zero_copy_release_all(vl);
	vl_timer_delete_sync(&vl->zero_copy.age_timer);
	cancel_work_sync(&vl->zero_copy.evict_work);
	kvfree(vl->zero_copy.by_page);
}
