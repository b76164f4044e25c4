// SPDX-License-Identifier: GPL-2.0-only
/*
 * Answers that virtio_snd does not look at closely enough.
 *
 * - It believes what a device says of its controls: by the number of values it
 *   copies between messages and applications, by the type it looks into a
 *   table, for the number of names it allocates memory, and it prints a name as
 *   if that ended. What it gets is within the bounds of the sound core.
 * - It makes a PCM for each channel map, and follows a NULL pointer where that
 *   has no streams. It is told that such a map has no direction, and refuses it.
 * - The sound core's own emulation of OSS mixers divides by the difference of a
 *   control's bounds, which ends the kernel where that is -1 and the value is
 *   large, as 64 bits can be; and takes what is named "Capture Source" for a list.
 * - Metadata of a control may come when the memory for it has been freed, see
 *   tlv.c. Then it is not copied.
 *
 * What an answer is for is known by what was asked before: the same task maps a
 * message's buffers one after the other, the question first.
 */
#include <linux/bitmap.h>
#include <linux/build_bug.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/virtio_ring.h>

#include "compat.h"
#include "loopback.h"

/* virtio 1.3, 5.14.6: requests, with their sizes. */
#define VL_SND_JACK_INFO	0x0001
#define VL_SND_PCM_INFO		0x0100
#define VL_SND_PCM_SET_PARAMS	0x0101
#define VL_SND_PARAMS_SIZE	24	/* of struct virtio_snd_pcm_set_params */
#define VL_SND_PARAMS_PERIOD	12	/* offset of period_bytes in it */
#define VL_SND_CHMAP_INFO	0x0200
#define VL_SND_CTL_INFO		0x0300
#define VL_SND_QUERY_SIZE	16	/* of struct virtio_snd_query_info */
#define VL_SND_TLV_READ		0x0304
#define VL_SND_ENUM_ITEMS	0x0305
#define VL_SND_CTL_HDR_SIZE	8	/* of struct virtio_snd_ctl_hdr */

/* An answer's buffers: the status, and what was asked for. */
#define VL_ANSWER_PARTS		2

/* The answers to those, item by item; what is not named here is left alone. */
struct vl_snd_pcm_info {
	__le32 nid;		/* the PCM device */
	__le32 features;
	__le64 formats;
	__le64 rates;
	u8 direction;
	u8 more[7];
};

static_assert(sizeof(struct vl_snd_pcm_info) == 32);

struct vl_snd_chmap_info {
	__le32 nid;
	u8 direction;
	u8 others[19];
};

static_assert(sizeof(struct vl_snd_chmap_info) == 24);

#define VL_SND_NO_DIRECTION	0xff
#define VL_SND_IMA_ADPCM	0

/* struct virtio_snd_ctl_info, which <linux/virtio_snd.h> has not had always. */
struct vl_snd_ctl_info {
	__le32 nid;
	__le32 role;
	__le32 type;
	__le32 access;
	__le32 count;
	__le32 index;
	u8 name[44];
	u8 padding[4];
	union {
		struct {
			__le64 min;
			__le64 max;
		} integer64;
		__le32 items;	/* of one that is enumerated */
		u8 room[24];
	} value;
};

static_assert(sizeof(struct vl_snd_ctl_info) == 96);

#define VL_SND_BOOLEAN		0
#define VL_SND_INTEGER64	2
#define VL_SND_ENUMERATED	3
/* The most values of a control, by its type: see struct snd_ctl_elem_value. */
static const u32 vl_most_values[] = {
	128,	/* BOOLEAN */
	128,	/* INTEGER */
	64,	/* INTEGER64 */
	128,	/* ENUMERATED */
	512,	/* BYTES */
	1,	/* IEC958 */
};

static enum vl_answer vl_answer_to(const void *question, size_t size)
{
	u32 code;

	if (size != VL_SND_QUERY_SIZE && size != VL_SND_CTL_HDR_SIZE)
		return VL_ANSWER_PLAIN;
	code = get_unaligned_le32(question);
	if (size == VL_SND_CTL_HDR_SIZE)
		return code == VL_SND_TLV_READ	 ? VL_ANSWER_TLV :
		       code == VL_SND_ENUM_ITEMS ? VL_ANSWER_TIMELY :
						   VL_ANSWER_PLAIN;
	switch (code) {
	case VL_SND_JACK_INFO:
		return VL_ANSWER_TIMELY;
	case VL_SND_PCM_INFO:
		return VL_ANSWER_STREAMS;
	case VL_SND_CHMAP_INFO:
		return VL_ANSWER_CHANNEL_MAPS;
	case VL_SND_CTL_INFO:
		return VL_ANSWER_CONTROLS;
	default:
		return VL_ANSWER_PLAIN;
	}
}

/*
 * Whether the message of a period has no more parts than its queue has room for,
 * of which the kernel would warn: header, status and each page.
 */
static bool vl_period_fits(struct vl_device *vl, const void *params)
{
	u32 bytes = get_unaligned_le32(params + VL_SND_PARAMS_PERIOD);
	u32 i;

	if (virtio_has_feature(&vl->vdev, VIRTIO_RING_F_INDIRECT_DESC))
		return true;
	for (i = VL_SND_TX; i <= VL_SND_RX && i < vl->queue_count; i++) {
		struct virtqueue *vq = READ_ONCE(vl->queues[i].vq);

		if (vq && (bytes >> PAGE_SHIFT) + 4 >
				  virtqueue_get_vring_size(vq))
			return false;
	}
	return true;
}

/*
 * A buffer for the device to read is being mapped. Returns false where it is
 * not to be: it asks for metadata, and who asks may be disturbed; or it is of
 * a stream whose messages the device has no room for.
 * Context: the driver's, from a message's first buffer to its last.
 */
bool vl_answer_ask(struct vl_device *vl, const void *data, size_t size)
{
	enum vl_answer answer;

	if (vl->device_id != VIRTIO_ID_SOUND || !in_task())
		return true;
	/* Questions are objects of the slab; sound may look like one. */
	if (vl_pages_eligible(page_to_pfn(virt_to_page(data)), 1))
		return true;
	if (size == VL_SND_PARAMS_SIZE &&
	    get_unaligned_le32(data) == VL_SND_PCM_SET_PARAMS) {
		if (!vl_period_fits(vl, data))
			return false;
		/* The answer is heard when its stream has our functions. */
		if (READ_ONCE(vl->probing))
			WRITE_ONCE(vl->early, true);
	}
	answer = vl_answer_to(data, size);
	if (answer == VL_ANSWER_TLV && !(current->flags & PF_KTHREAD))
		return false;
	if (answer != VL_ANSWER_PLAIN) {
		WRITE_ONCE(vl->answer, answer);
		WRITE_ONCE(vl->answer_parts, VL_ANSWER_PARTS);
		WRITE_ONCE(vl->asking, current);
	} else if (READ_ONCE(vl->asking) == current) {
		WRITE_ONCE(vl->asking, NULL);
	}
	return true;
}

/* What a buffer that is being mapped for the device to write is for. */
enum vl_answer vl_answer_expected(struct vl_device *vl)
{
	if (!in_task() || READ_ONCE(vl->asking) != current)
		return VL_ANSWER_PLAIN;
	return READ_ONCE(vl->answer);
}

/*
 * Such a buffer has been mapped. What the same task maps after the last one, as a
 * probe does for events, is no answer.
 */
void vl_answer_mapped(struct vl_device *vl)
{
	if (!in_task() || READ_ONCE(vl->asking) != current)
		return;
	WRITE_ONCE(vl->answer_parts, vl->answer_parts - 1);
	if (!vl->answer_parts)
		WRITE_ONCE(vl->asking, NULL);
}

/*
 * Of which PCMs there are streams. In the one format whose samples are not
 * whole bytes, a buffer can be longer than its periods: virtio_snd, which has a
 * message for each of those, would look behind the last one.
 */
static void vl_answer_streams(struct vl_device *vl,
			      struct vl_snd_pcm_info *info, size_t size)
{
	u32 nid;

	for (; size >= sizeof(*info); info++, size -= sizeof(*info)) {
		info->formats &= ~cpu_to_le64(BIT_ULL(VL_SND_IMA_ADPCM));
		nid = le32_to_cpu(info->nid);
		if (nid < VL_SOUND_PCMS)
			set_bit(nid, vl->pcms);
		else
			info->direction = VL_SND_NO_DIRECTION;
	}
}

static void vl_answer_channel_maps(struct vl_device *vl,
				   struct vl_snd_chmap_info *info, size_t size)
{
	u32 nid;

	for (; size >= sizeof(*info); info++, size -= sizeof(*info)) {
		nid = le32_to_cpu(info->nid);
		if (nid >= VL_SOUND_PCMS ||
		    !test_bit(nid, vl->pcms))
			info->direction = VL_SND_NO_DIRECTION;
	}
}

/* A name ends, and is one line where it is printed. */
static void vl_answer_name(u8 *name, size_t size)
{
	name[--size] = '\0';
	while (size--)
		if ((name[size] && name[size] < ' ') || name[size] == 0x7f)
			name[size] = '?';
}

static u32 vl_answer_type(const struct vl_snd_ctl_info *info)
{
	u32 type = le32_to_cpu(info->type);

	if (type >= ARRAY_SIZE(vl_most_values) ||
	    (type != VL_SND_ENUMERATED &&
	     !strcmp((const char *)info->name, "Capture Source")))
		return VL_SND_BOOLEAN;
	return type;
}

static void vl_answer_controls(struct vl_snd_ctl_info *info, size_t size)
{
	u32 left = VIRTIO_LOOPBACK_MAX_SOUND_ITEMS;
	s64 least, most;
	u32 type, items;

	for (; size >= sizeof(*info); info++, size -= sizeof(*info)) {
		vl_answer_name(info->name, sizeof(info->name));
		type = vl_answer_type(info);
		info->type = cpu_to_le32(type);
		info->count = cpu_to_le32(min(le32_to_cpu(info->count),
					      vl_most_values[type]));
		switch (type) {
		case VL_SND_INTEGER64:
			least = le64_to_cpu(info->value.integer64.min);
			most = le64_to_cpu(info->value.integer64.max);
			most = max(most, least);
			if (least < 0)
				most = min(most, least + S64_MAX);
			info->value.integer64.max = cpu_to_le64(most);
			break;
		case VL_SND_ENUMERATED:
			/* One at least: no buffer is of no bytes. */
			items = clamp(le32_to_cpu(info->value.items), 1U,
				      max(left, 1U));
			info->value.items = cpu_to_le32(items);
			left -= min(left, items);
			break;
		}
	}
}

static void vl_answer_correct(struct vl_device *vl, enum vl_answer answer,
			      void *data, size_t size)
{
	switch (answer) {
	case VL_ANSWER_STREAMS:
		vl_answer_streams(vl, data, size);
		break;
	case VL_ANSWER_CHANNEL_MAPS:
		vl_answer_channel_maps(vl, data, size);
		break;
	case VL_ANSWER_CONTROLS:
		vl_answer_controls(data, size);
		break;
	default:
		break;
	}
}

/*
 * The driver gets back what the device has written; of what virtio_snd may tire
 * of waiting for, if not after @until. Context: any.
 */
void vl_answer_copy(struct vl_device *vl, enum vl_answer answer, void *data,
		    const void *memory, size_t size, unsigned long until)
{
	if (answer == VL_ANSWER_PLAIN) {
		memcpy(data, memory, size);
		return;
	}
	/* With PREEMPT_RT there might be much time between the two. */
	preempt_disable();
	if (time_before(jiffies, until)) {
		memcpy(data, memory, size);
		vl_answer_correct(vl, answer, data, size);
	}
	preempt_enable();
}
