/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM virtio_loopback

#if !defined(VL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VL_TRACE_H

#include <linux/tracepoint.h>

#include "loopback.h"

DECLARE_EVENT_CLASS(vl_queue_event,
	TP_PROTO(const struct vl_queue *queue),
	TP_ARGS(queue),
	TP_STRUCT__entry(
		__array(char, name, VIRTIO_LOOPBACK_NAME_SIZE)
		__field(u32, queue)
	),
	TP_fast_assign(
		memcpy(__entry->name, queue->vl->name,
		       VIRTIO_LOOPBACK_NAME_SIZE);
		__entry->queue = queue->index;
	),
	TP_printk("%s: queue %u", __entry->name, __entry->queue)
);

/* The driver notifies the process. */
DEFINE_EVENT(vl_queue_event, vl_kick,
	TP_PROTO(const struct vl_queue *queue),
	TP_ARGS(queue)
);

/* The process interrupts the driver. */
DEFINE_EVENT(vl_queue_event, vl_call,
	TP_PROTO(const struct vl_queue *queue),
	TP_ARGS(queue)
);

DECLARE_EVENT_CLASS(vl_buffer_event,
	TP_PROTO(const struct vl_device *vl, dma_addr_t addr, size_t size,
		 int dir, bool zero_copy),
	TP_ARGS(vl, addr, size, dir, zero_copy),
	TP_STRUCT__entry(
		__array(char, name, VIRTIO_LOOPBACK_NAME_SIZE)
		__field(u64, addr)
		__field(size_t, size)
		__field(int, dir)
		__field(bool, zero_copy)
	),
	TP_fast_assign(
		memcpy(__entry->name, vl->name, VIRTIO_LOOPBACK_NAME_SIZE);
		__entry->addr = addr;
		__entry->size = size;
		__entry->dir = dir;
		__entry->zero_copy = zero_copy;
	),
	TP_printk("%s: 0x%llx+%zu %s %s", __entry->name, __entry->addr,
		  __entry->size,
		  __print_symbolic(__entry->dir,
				   { DMA_BIDIRECTIONAL, "both" },
				   { DMA_TO_DEVICE, "to device" },
				   { DMA_FROM_DEVICE, "from device" }),
		  __entry->zero_copy ? "in place" : "bounced")
);

DEFINE_EVENT(vl_buffer_event, vl_map,
	TP_PROTO(const struct vl_device *vl, dma_addr_t addr, size_t size,
		 int dir, bool zero_copy),
	TP_ARGS(vl, addr, size, dir, zero_copy)
);

DEFINE_EVENT(vl_buffer_event, vl_unmap,
	TP_PROTO(const struct vl_device *vl, dma_addr_t addr, size_t size,
		 int dir, bool zero_copy),
	TP_ARGS(vl, addr, size, dir, zero_copy)
);

/* A request of the control file is made (-EINPROGRESS) or ends. */
TRACE_EVENT(vl_request,
	TP_PROTO(const struct vl_device *vl, u64 id, u32 type, int status),
	TP_ARGS(vl, id, type, status),
	TP_STRUCT__entry(
		__array(char, name, VIRTIO_LOOPBACK_NAME_SIZE)
		__field(u64, id)
		__field(u32, type)
		__field(int, status)
	),
	TP_fast_assign(
		memcpy(__entry->name, vl->name, VIRTIO_LOOPBACK_NAME_SIZE);
		__entry->id = id;
		__entry->type = type;
		__entry->status = status;
	),
	TP_printk("%s: %llu %s %d", __entry->name, __entry->id,
		  __print_symbolic(__entry->type,
			{ VIRTIO_LOOPBACK_REQUEST_START, "start" },
			{ VIRTIO_LOOPBACK_REQUEST_STOP, "stop" },
			{ VIRTIO_LOOPBACK_REQUEST_CONFIG_WRITE,
			  "config write" }),
		  __entry->status)
);

#endif /* VL_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
