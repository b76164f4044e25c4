// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bounce slots: buffers that the process must not see in place are copied into
 * and out of an arena that is always in the address space.
 *
 * Many buffers of drivers are small (virtio_snd posts 64 event buffers of 8
 * bytes), so a slot is a multiple of 64 bytes, not of a page. And those of 64
 * bytes come and go most: each sound message has a header and a status. The
 * start of the arena is cut into such slots, which are found by their number;
 * the rest is a pool.
 *
 * What the process has written is copied into the driver's buffer when the
 * driver gets it back, which may be long after it has freed the buffer: an
 * application has closed its card, and a process answers then. So pages that
 * are a buffer's own are kept until then.
 */
#include <linux/bits.h>
#include <linux/dma-mapping.h>
#include <linux/genalloc.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "loopback.h"

#define VL_SLOT_ORDER	6
#define VL_SMALL_SIZE	BIT(VL_SLOT_ORDER)
/* Of the arena, at most a quarter: 128 KiB of the usual MiB. */
#define VL_SMALL_MAX	2048U
#define VL_SMALL_NONE	U16_MAX

struct vl_small {
	void *data;	/* the driver's buffer; NULL: free */
	u16 size;
	u16 next_free;
	bool kept;	/* its pages, by vl_pages_keep() */
	enum vl_answer answer;
	unsigned long until;	/* when it is too late, in jiffies */
};

struct vl_slot {
	struct rb_node node;
	dma_addr_t addr;
	size_t size;
	void *data;	/* the driver's buffer */
	bool kept;	/* its pages, by vl_pages_keep() */
	enum vl_answer answer;
	unsigned long until;	/* when it is too late, in jiffies */
};

/* How many pages a buffer is in. */
static unsigned long vl_pages_count(const void *data, size_t size)
{
	return PAGE_ALIGN(offset_in_page(data) + size) >> PAGE_SHIFT;
}

/* Returns whether the pages are a buffer's own, and kept now. */
static bool vl_pages_keep(void *data, size_t size)
{
	unsigned long count = vl_pages_count(data, size);
	unsigned long pfn = page_to_pfn(virt_to_page(data));

	if (!vl_pages_eligible(pfn, count))
		return false;
	while (count--)
		get_page(pfn_to_page(pfn + count));
	return true;
}

/* Context: any. */
static void vl_pages_drop(void *data, size_t size)
{
	unsigned long count = vl_pages_count(data, size);
	unsigned long pfn = page_to_pfn(virt_to_page(data));

	while (count--)
		put_page(pfn_to_page(pfn + count));
}

/* The driver gets back what the device has written. */
static void vl_buffer_fill(struct vl_device *vl, void *data,
			   const void *memory, size_t size,
			   enum vl_answer answer, unsigned long until)
{
	vl_answer_copy(vl, answer, data, memory, size, until);
	atomic64_add(size, &vl->counters.bounced_bytes);
}

/*
 * Until when an answer of which virtio_snd may tire is heard; its status not so
 * long as the rest, which otherwise could be missing.
 */
static unsigned long vl_buffer_until(size_t size)
{
	bool status = size == sizeof(__le32);

	return jiffies + msecs_to_jiffies(VL_HEARD_MS - (status ? 50 : 0));
}

/* Context: none is in use, or bounce->lock held. */
static void vl_small_free_all(struct vl_bounce *bounce)
{
	unsigned int i;

	bounce->small_free = VL_SMALL_NONE;
	WRITE_ONCE(bounce->small_used, 0);
	for (i = bounce->small_count; i-- > 0;) {
		struct vl_small *small = &bounce->small[i];

		if (small->data && small->kept)
			vl_pages_drop(small->data, small->size);
		small->data = NULL;
		small->next_free = bounce->small_free;
		bounce->small_free = i;
	}
}

static int vl_small_init(struct vl_bounce *bounce)
{
	bounce->small_count = min_t(size_t, VL_SMALL_MAX,
				    (bounce->size >> VL_SLOT_ORDER) / 4);
	/* A small arena is for one large buffer as well. */
	if (bounce->size < 16 * PAGE_SIZE)
		bounce->small_count = 0;
	bounce->small = kvcalloc(max(bounce->small_count, 1U),
				 sizeof(*bounce->small), GFP_KERNEL_ACCOUNT);
	if (!bounce->small)
		return -ENOMEM;
	vl_small_free_all(bounce);
	return 0;
}

int vl_bounce_init(struct vl_device *vl, size_t size)
{
	struct vl_bounce *bounce = &vl->bounce;
	size_t small;

	spin_lock_init(&bounce->lock);
	bounce->slots = RB_ROOT;
	bounce->base = (dma_addr_t)vl->memory.bounce_start << PAGE_SHIFT;
	bounce->size = size;
	bounce->arena = __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO |
				  __GFP_NOWARN);
	if (!bounce->arena)
		return -ENOMEM;
	if (vl_small_init(bounce))
		return -ENOMEM;
	bounce->pool = gen_pool_create(VL_SLOT_ORDER, NUMA_NO_NODE);
	if (!bounce->pool)
		return -ENOMEM;
	/* The pool only counts: it is given addresses, not memory. */
	small = bounce->small_count << VL_SLOT_ORDER;
	return gen_pool_add(bounce->pool, bounce->base + small, size - small,
			    NUMA_NO_NODE);
}

void vl_bounce_destroy(struct vl_device *vl)
{
	if (vl->bounce.pool) {
		vl_bounce_release_all(vl);
		gen_pool_destroy(vl->bounce.pool);
	}
	kvfree(vl->bounce.small);
	vfree(vl->bounce.arena);
}

size_t vl_bounce_used(struct vl_device *vl)
{
	struct vl_bounce *bounce = &vl->bounce;

	return gen_pool_size(bounce->pool) - gen_pool_avail(bounce->pool) +
	       READ_ONCE(bounce->small_used) * VL_SMALL_SIZE;
}

static void *vl_slot_memory(struct vl_bounce *bounce, dma_addr_t addr)
{
	return bounce->arena + (addr - bounce->base);
}

/* The slot that @addr is in. Context: bounce->lock held. */
static struct vl_slot *vl_slot_find(struct vl_bounce *bounce, dma_addr_t addr)
{
	struct rb_node *node = bounce->slots.rb_node;

	while (node) {
		struct vl_slot *slot = rb_entry(node, struct vl_slot, node);

		if (addr < slot->addr)
			node = node->rb_left;
		else if (addr >= slot->addr + slot->size)
			node = node->rb_right;
		else
			return slot;
	}
	return NULL;
}

static void vl_slot_insert(struct vl_bounce *bounce, struct vl_slot *slot)
{
	struct rb_node **link = &bounce->slots.rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		if (slot->addr < rb_entry(parent, struct vl_slot, node)->addr)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&slot->node, parent, link);
	rb_insert_color(&slot->node, &bounce->slots);
}

static void vl_slot_free(struct vl_bounce *bounce, struct vl_slot *slot)
{
	if (slot->kept)
		vl_pages_drop(slot->data, slot->size);
	gen_pool_free(bounce->pool, slot->addr, slot->size);
	kfree(slot);
}

/*
 * What the device is to fill starts as zeros, not as the contents of the
 * driver's buffer: they are none of the process' business.
 */
static void vl_slot_fill(struct vl_device *vl, dma_addr_t addr,
			 const void *data, size_t size, bool contents)
{
	void *memory = vl_slot_memory(&vl->bounce, addr);

	if (contents) {
		memcpy(memory, data, size);
		atomic64_add(size, &vl->counters.bounced_bytes);
	} else {
		memset(memory, 0, size);
	}
}

/* The small slot that @addr is in, or NULL: it is in the pool. */
static struct vl_small *vl_small_at(struct vl_bounce *bounce, dma_addr_t addr)
{
	size_t number = (addr - bounce->base) >> VL_SLOT_ORDER;

	return number < bounce->small_count ? &bounce->small[number] : NULL;
}

/* Returns DMA_MAPPING_ERROR where all are in use. */
static dma_addr_t vl_small_map(struct vl_device *vl, void *data, size_t size,
			       bool contents, bool written)
{
	enum vl_answer answer = vl_answer_expected(vl);
	struct vl_bounce *bounce = &vl->bounce;
	dma_addr_t addr = DMA_MAPPING_ERROR;
	struct vl_small *small;
	unsigned long flags;

	spin_lock_irqsave(&bounce->lock, flags);
	if (bounce->small_free != VL_SMALL_NONE) {
		addr = bounce->base + bounce->small_free * VL_SMALL_SIZE;
		small = &bounce->small[bounce->small_free];
		bounce->small_free = small->next_free;
		WRITE_ONCE(bounce->small_used, bounce->small_used + 1);
		small->data = data;
		small->size = size;
		small->kept = written && vl_pages_keep(data, size);
		small->answer = answer;
		small->until = vl_buffer_until(size);
		vl_slot_fill(vl, addr, data, size, contents);
	}
	spin_unlock_irqrestore(&bounce->lock, flags);
	return addr;
}

static void vl_small_unmap(struct vl_device *vl, struct vl_small *small,
			   dma_addr_t addr, bool contents)
{
	struct vl_bounce *bounce = &vl->bounce;
	unsigned long flags;

	spin_lock_irqsave(&bounce->lock, flags);
	if (small->data) {	/* not gone with the queues */
		if (contents)
			vl_buffer_fill(vl, small->data,
				       vl_slot_memory(bounce, addr),
				       small->size, small->answer,
				       small->until);
		if (small->kept)
			vl_pages_drop(small->data, small->size);
		small->data = NULL;
		small->next_free = bounce->small_free;
		bounce->small_free = small - bounce->small;
		WRITE_ONCE(bounce->small_used, bounce->small_used - 1);
	}
	spin_unlock_irqrestore(&bounce->lock, flags);
}

dma_addr_t vl_bounce_map(struct vl_device *vl, void *data, size_t size,
			 enum dma_data_direction dir, bool copy)
{
	bool contents = copy && dir != DMA_FROM_DEVICE;
	bool written = dir != DMA_TO_DEVICE;
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_slot *slot;
	unsigned long flags;

	if (!size || size > bounce->size)
		return DMA_MAPPING_ERROR;
	if (size <= VL_SMALL_SIZE) {
		dma_addr_t addr = vl_small_map(vl, data, size, contents,
					       written);

		if (addr != DMA_MAPPING_ERROR)
			return addr;
	}
	slot = kmalloc(sizeof(*slot), GFP_ATOMIC | __GFP_NOWARN);
	if (!slot)
		return DMA_MAPPING_ERROR;
	slot->addr = gen_pool_alloc(bounce->pool, size);
	if (!slot->addr) {
		kfree(slot);
		atomic64_inc(&vl->counters.bounce_full);
		return DMA_MAPPING_ERROR;
	}
	slot->size = size;
	slot->data = data;
	slot->kept = written && vl_pages_keep(data, size);
	slot->answer = vl_answer_expected(vl);
	slot->until = vl_buffer_until(size);
	vl_slot_fill(vl, slot->addr, data, size, contents);

	spin_lock_irqsave(&bounce->lock, flags);
	vl_slot_insert(bounce, slot);
	spin_unlock_irqrestore(&bounce->lock, flags);
	return slot->addr;
}

void vl_bounce_unmap(struct vl_device *vl, dma_addr_t addr,
		     enum dma_data_direction dir, bool copy)
{
	bool contents = copy && dir != DMA_TO_DEVICE;
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_small *small = vl_small_at(bounce, addr);
	struct vl_slot *slot;
	unsigned long flags;

	if (small) {
		vl_small_unmap(vl, small, addr, contents);
		return;
	}
	spin_lock_irqsave(&bounce->lock, flags);
	slot = vl_slot_find(bounce, addr);
	if (slot)
		rb_erase(&slot->node, &bounce->slots);
	spin_unlock_irqrestore(&bounce->lock, flags);
	if (!slot)	/* gone with the queues, see release_all */
		return;

	if (contents)
		vl_buffer_fill(vl, slot->data,
			       vl_slot_memory(bounce, slot->addr), slot->size,
			       slot->answer, slot->until);
	vl_slot_free(bounce, slot);
}

/*
 * The driver's buffer at @addr, and at most @size bytes of it; NULL where there
 * is none, or it is for an answer. Context: bounce->lock held.
 */
static void *vl_bounce_data(struct vl_bounce *bounce, dma_addr_t addr,
			    size_t *size)
{
	struct vl_small *small = vl_small_at(bounce, addr);
	struct vl_slot *slot;
	size_t offset;

	if (small) {
		offset = (addr - bounce->base) % VL_SMALL_SIZE;
		if (!small->data || small->answer || offset > small->size)
			return NULL;
		*size = min_t(size_t, *size, small->size - offset);
		return small->data + offset;
	}
	slot = vl_slot_find(bounce, addr);
	if (!slot || slot->answer)
		return NULL;
	offset = addr - slot->addr;
	*size = min_t(size_t, *size, slot->size - offset);
	return slot->data + offset;
}

/* Part of a buffer that stays mapped changes hands. */
void vl_bounce_sync(struct vl_device *vl, dma_addr_t addr, size_t size,
		    bool to_device)
{
	struct vl_bounce *bounce = &vl->bounce;
	unsigned long flags;
	void *memory, *data;

	/* Under the lock: nothing else keeps the slot while it is used. */
	spin_lock_irqsave(&bounce->lock, flags);
	data = vl_bounce_data(bounce, addr, &size);
	if (data) {
		memory = vl_slot_memory(bounce, addr);
		if (to_device)
			memcpy(memory, data, size);
		else
			memcpy(data, memory, size);
		atomic64_add(size, &vl->counters.bounced_bytes);
	}
	spin_unlock_irqrestore(&bounce->lock, flags);
}

/*
 * The queues go, and with them every mapping made for them. Drivers do not
 * unmap the buffers that were in a queue when they deleted it.
 */
void vl_bounce_release_all(struct vl_device *vl)
{
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_slot *slot, *next;
	struct rb_root slots;
	unsigned long flags;

	spin_lock_irqsave(&bounce->lock, flags);
	slots = bounce->slots;
	bounce->slots = RB_ROOT;
	vl_small_free_all(bounce);
	spin_unlock_irqrestore(&bounce->lock, flags);

	rbtree_postorder_for_each_entry_safe(slot, next, &slots, node)
		vl_slot_free(bounce, slot);
}
