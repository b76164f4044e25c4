// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bounce slots: buffers that the process must not see in place are copied into
 * and out of an arena that is always in the address space.
 *
 * Many buffers of drivers are small (virtio_snd posts 64 event buffers of 8
 * bytes), so a slot is a multiple of 64 bytes, not of a page.
 */
#include <linux/dma-mapping.h>
#include <linux/genalloc.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "loopback.h"

#define VL_SLOT_ORDER	6

struct vl_slot {
	struct rb_node node;
	dma_addr_t addr;
	size_t size;
	void *data;	/* the driver's buffer */
};

int vl_bounce_init(struct vl_device *vl, size_t size)
{
	struct vl_bounce *bounce = &vl->bounce;

	spin_lock_init(&bounce->lock);
	bounce->slots = RB_ROOT;
	bounce->base = (dma_addr_t)vl->memory.bounce_start << PAGE_SHIFT;
	bounce->size = size;
	bounce->arena = __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!bounce->arena)
		return -ENOMEM;
	bounce->pool = gen_pool_create(VL_SLOT_ORDER, NUMA_NO_NODE);
	if (!bounce->pool)
		return -ENOMEM;
	/* The pool only counts: it is given addresses, not memory. */
	return gen_pool_add(bounce->pool, bounce->base, size, NUMA_NO_NODE);
}

void vl_bounce_destroy(struct vl_device *vl)
{
	if (vl->bounce.pool) {
		vl_bounce_release_all(vl);
		gen_pool_destroy(vl->bounce.pool);
	}
	vfree(vl->bounce.arena);
}

size_t vl_bounce_used(struct vl_device *vl)
{
	return vl->bounce.size - gen_pool_avail(vl->bounce.pool);
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
	gen_pool_free(bounce->pool, slot->addr, slot->size);
	kfree(slot);
}

dma_addr_t vl_bounce_map(struct vl_device *vl, void *data, size_t size,
			 enum dma_data_direction dir, bool copy)
{
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_slot *slot;
	unsigned long flags;

	if (!size || size > bounce->size)
		return DMA_MAPPING_ERROR;
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

	/*
	 * What the device is to fill starts as zeros, not as the contents of
	 * the driver's buffer: they are none of the process' business.
	 */
	if (copy && dir != DMA_FROM_DEVICE) {
		memcpy(vl_slot_memory(bounce, slot->addr), data, size);
		atomic64_add(size, &vl->counters.bounced_bytes);
	} else {
		memset(vl_slot_memory(bounce, slot->addr), 0, size);
	}

	spin_lock_irqsave(&bounce->lock, flags);
	vl_slot_insert(bounce, slot);
	spin_unlock_irqrestore(&bounce->lock, flags);
	return slot->addr;
}

void vl_bounce_unmap(struct vl_device *vl, dma_addr_t addr,
		     enum dma_data_direction dir, bool copy)
{
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_slot *slot;
	unsigned long flags;

	spin_lock_irqsave(&bounce->lock, flags);
	slot = vl_slot_find(bounce, addr);
	if (slot)
		rb_erase(&slot->node, &bounce->slots);
	spin_unlock_irqrestore(&bounce->lock, flags);
	if (!slot)	/* gone with the queues, see release_all */
		return;

	if (copy && dir != DMA_TO_DEVICE) {
		memcpy(slot->data, vl_slot_memory(bounce, slot->addr),
		       slot->size);
		atomic64_add(slot->size, &vl->counters.bounced_bytes);
	}
	vl_slot_free(bounce, slot);
}

/* Part of a buffer that stays mapped changes hands. */
void vl_bounce_sync(struct vl_device *vl, dma_addr_t addr, size_t size,
		    bool to_device)
{
	struct vl_bounce *bounce = &vl->bounce;
	struct vl_slot *slot;
	unsigned long flags;
	void *memory, *data;

	/* Under the lock: nothing else keeps the slot while it is used. */
	spin_lock_irqsave(&bounce->lock, flags);
	slot = vl_slot_find(bounce, addr);
	if (slot) {
		size = min_t(size_t, size, slot->addr + slot->size - addr);
		data = slot->data + (addr - slot->addr);
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
 * The queues are gone, and with them every mapping made for them. Drivers do
 * not unmap the buffers that were in a queue when they deleted it.
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
	spin_unlock_irqrestore(&bounce->lock, flags);

	rbtree_postorder_for_each_entry_safe(slot, next, &slots, node)
		vl_slot_free(bounce, slot);
}
