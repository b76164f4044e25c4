// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one file that knows how virtio asks for its buffers to be mapped: by the
 * DMA operations of the parent device up to 6.17, by the virtio device's own
 * mapping operations from 6.18 on.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/version.h>

#include "loopback.h"
#include "trace.h"

#define VL_HAVE_MAP_OPS	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0))

#ifdef CONFIG_HIGHMEM
#error "virtio-loopback needs a kernel that has all memory mapped (no HIGHMEM)"
#endif

/* Not so large that a fragmented arena could not hold a few. */
static size_t vl_max_mapping_size(struct vl_device *vl)
{
	return max_t(size_t, vl->bounce.size / 8, PAGE_SIZE);
}

static dma_addr_t vl_map(struct vl_device *vl, struct page *page,
			 unsigned long offset, size_t size,
			 enum dma_data_direction dir, unsigned long attrs)
{
	bool copy = !(attrs & DMA_ATTR_SKIP_CPU_SYNC);
	void *data = page_address(page) + offset;
	dma_addr_t addr;

	if (vl_unbind_refuses(vl) ||
	    vl_queue_floods(vl, dir == DMA_TO_DEVICE))
		return DMA_MAPPING_ERROR;
	/* What is looked at when it comes back is copied. */
	if (vl_answer_expected(vl) == VL_ANSWER_PLAIN &&
	    vl_zero_copy_map(vl, page, offset, size, &addr)) {
		trace_vl_map(vl, addr, size, dir, true);
		return addr;
	}
	if (dir == DMA_TO_DEVICE && !vl_answer_ask(vl, data, size))
		return DMA_MAPPING_ERROR;
	addr = vl_bounce_map(vl, data, size, dir, copy);
	if (dir != DMA_TO_DEVICE)
		vl_answer_mapped(vl);
	trace_vl_map(vl, addr, size, dir, false);
	return addr;
}

static void vl_unmap(struct vl_device *vl, dma_addr_t addr, size_t size,
		     enum dma_data_direction dir, unsigned long attrs)
{
	bool copy = !(attrs & DMA_ATTR_SKIP_CPU_SYNC);

	trace_vl_unmap(vl, addr, size, dir, vl_in_window(vl, addr));
	if (vl_in_window(vl, addr))
		vl_zero_copy_unmap(vl, addr);
	else
		vl_bounce_unmap(vl, addr, dir, copy);
}

static void vl_sync(struct vl_device *vl, dma_addr_t addr, size_t size,
		    bool to_device)
{
	if (!vl_in_window(vl, addr))
		vl_bounce_sync(vl, addr, size, to_device);
}

#if VL_HAVE_MAP_OPS

static struct vl_device *map_to_vl(union virtio_map map)
{
	return dev_to_vl(map.dma_dev);
}

static dma_addr_t vl_map_page(union virtio_map map, struct page *page,
			      unsigned long offset, size_t size,
			      enum dma_data_direction dir, unsigned long attrs)
{
	return vl_map(map_to_vl(map), page, offset, size, dir, attrs);
}

static void vl_unmap_page(union virtio_map map, dma_addr_t addr, size_t size,
			  enum dma_data_direction dir, unsigned long attrs)
{
	vl_unmap(map_to_vl(map), addr, size, dir, attrs);
}

static void vl_sync_for_cpu(union virtio_map map, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE)
		vl_sync(map_to_vl(map), addr, size, false);
}

static void vl_sync_for_device(union virtio_map map, dma_addr_t addr,
			       size_t size, enum dma_data_direction dir)
{
	if (dir != DMA_FROM_DEVICE)
		vl_sync(map_to_vl(map), addr, size, true);
}

static void *vl_alloc(union virtio_map map, size_t size, dma_addr_t *addr,
		      gfp_t gfp)
{
	return vl_coherent_alloc(map_to_vl(map), size, addr, gfp);
}

static void vl_free(union virtio_map map, size_t size, void *vaddr,
		    dma_addr_t addr, unsigned long attrs)
{
	vl_coherent_free(map_to_vl(map), size, vaddr, addr);
}

static bool vl_need_sync(union virtio_map map, dma_addr_t addr)
{
	return !vl_in_window(map_to_vl(map), addr);
}

static int vl_mapping_error(union virtio_map map, dma_addr_t addr)
{
	return addr == DMA_MAPPING_ERROR ? -ENOMEM : 0;
}

static size_t vl_max_size(union virtio_map map)
{
	return vl_max_mapping_size(map_to_vl(map));
}

/* The core calls all of them without asking whether they are there. */
static const struct virtio_map_ops vl_map_ops = {
	.map_page		= vl_map_page,
	.unmap_page		= vl_unmap_page,
	.sync_single_for_cpu	= vl_sync_for_cpu,
	.sync_single_for_device	= vl_sync_for_device,
	.alloc			= vl_alloc,
	.free			= vl_free,
	.need_sync		= vl_need_sync,
	.mapping_error		= vl_mapping_error,
	.max_mapping_size	= vl_max_size,
};

int vl_dma_init(struct vl_device *vl)
{
	vl->vdev.map = &vl_map_ops;
	/* It has no member for private data: our device leads to the rest. */
	vl->vdev.vmap.dma_dev = &vl->dev;
	return 0;
}

#else /* !VL_HAVE_MAP_OPS */

#include <linux/dma-map-ops.h>
#include <linux/scatterlist.h>

/* From 5.15 on the core warns of a 0. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 15, 0)
#define VL_MAP_SG_FAILED	(-ENOMEM)
#else
#define VL_MAP_SG_FAILED	0
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define VL_HAVE_DMA_OPS	IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS)
#else
#define VL_HAVE_DMA_OPS	IS_ENABLED(CONFIG_DMA_OPS)
#endif

/* Without, set_dma_ops() does nothing and a process would be given physical
 * addresses. On arm64, CONFIG_XEN selects it.
 */
#if !VL_HAVE_DMA_OPS
#error "virtio-loopback needs a kernel with DMA operations (arm64: CONFIG_XEN=y), or 6.18"
#endif

static dma_addr_t vl_map_page(struct device *dev, struct page *page,
			      unsigned long offset, size_t size,
			      enum dma_data_direction dir, unsigned long attrs)
{
	return vl_map(dev_to_vl(dev), page, offset, size, dir, attrs);
}

static void vl_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
			  enum dma_data_direction dir, unsigned long attrs)
{
	vl_unmap(dev_to_vl(dev), addr, size, dir, attrs);
}

static void vl_unmap_sg(struct device *dev, struct scatterlist *sgl, int nents,
			enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		vl_unmap(dev_to_vl(dev), sg_dma_address(sg), sg_dma_len(sg),
			 dir, attrs);
}

static int vl_map_sg(struct device *dev, struct scatterlist *sgl, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i) {
		dma_addr_t addr = vl_map(dev_to_vl(dev), sg_page(sg),
					 sg->offset, sg->length, dir, attrs);

		if (addr == DMA_MAPPING_ERROR) {
			vl_unmap_sg(dev, sgl, i, dir, attrs);
			return VL_MAP_SG_FAILED;
		}
		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = sg->length;
	}
	return nents;
}

static void vl_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE)
		vl_sync(dev_to_vl(dev), addr, size, false);
}

static void vl_sync_for_device(struct device *dev, dma_addr_t addr,
			       size_t size, enum dma_data_direction dir)
{
	if (dir != DMA_FROM_DEVICE)
		vl_sync(dev_to_vl(dev), addr, size, true);
}

static void vl_sync_sg_for_cpu(struct device *dev, struct scatterlist *sgl,
			       int nents, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		vl_sync_for_cpu(dev, sg_dma_address(sg), sg_dma_len(sg), dir);
}

static void vl_sync_sg_for_device(struct device *dev, struct scatterlist *sgl,
				  int nents, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		vl_sync_for_device(dev, sg_dma_address(sg), sg_dma_len(sg),
				   dir);
}

static void *vl_alloc(struct device *dev, size_t size, dma_addr_t *addr,
		      gfp_t gfp, unsigned long attrs)
{
	return vl_coherent_alloc(dev_to_vl(dev), size, addr, gfp);
}

static void vl_free(struct device *dev, size_t size, void *vaddr,
		    dma_addr_t addr, unsigned long attrs)
{
	vl_coherent_free(dev_to_vl(dev), size, vaddr, addr);
}

static size_t vl_max_size(struct device *dev)
{
	return vl_max_mapping_size(dev_to_vl(dev));
}

static const struct dma_map_ops vl_dma_ops = {
	.alloc			= vl_alloc,
	.free			= vl_free,
	.map_page		= vl_map_page,
	.unmap_page		= vl_unmap_page,
	.map_sg			= vl_map_sg,
	.unmap_sg		= vl_unmap_sg,
	.sync_single_for_cpu	= vl_sync_for_cpu,
	.sync_single_for_device	= vl_sync_for_device,
	.sync_sg_for_cpu	= vl_sync_sg_for_cpu,
	.sync_sg_for_device	= vl_sync_sg_for_device,
	.max_mapping_size	= vl_max_size,
};

int vl_dma_init(struct vl_device *vl)
{
	/* The DMA layer refuses to map for a device without masks. */
	vl->dev.dma_mask = &vl->dev.coherent_dma_mask;
	vl->dev.coherent_dma_mask = DMA_BIT_MASK(64);
	set_dma_ops(&vl->dev, &vl_dma_ops);
	if (get_dma_ops(&vl->dev) != &vl_dma_ops)
		return -EOPNOTSUPP;
	return 0;
}

#endif /* VL_HAVE_MAP_OPS */
