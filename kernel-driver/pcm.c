// SPDX-License-Identifier: GPL-2.0-only
/*
 * What applications may ask of virtio_snd's PCMs, and when.
 *
 * virtio_snd hands an application's sound over when the application says that
 * there is some (since 6.7: ack), whatever state the stream is in: messages that
 * have been freed, or name pages that others have by now, or are beyond the end
 * of a buffer that has become shorter. And parameters may change, or a stream be
 * prepared, while another thread does so or starts it. And it takes a stream for
 * started that is not, as the sound core has only the others of a group stopped
 * where one cannot be started, and has one that is being closed started with its
 * group: what the device gives back then is written to a stream that is not there.
 *
 * So its PCMs get functions of ours around the ones that are at fault, before a
 * stream has messages: at the end of the probe. An application may be earlier;
 * then it waits for that, see vl_unbind_mutes().
 */
#include <linux/mutex.h>
#include <sound/core.h>
#include <sound/pcm.h>

#include "compat.h"
#include "loopback.h"

static const struct snd_pcm_ops *
vl_pcm_original(const struct snd_pcm_substream *substream)
{
	struct device *parent = substream->pcm->card->dev;
	struct vl_device *vl = vdev_to_vl(dev_to_virtio(parent));

	return vl->pcm_original[substream->stream];
}

/* Whether parameters are being changed or given up. Context: stream locked. */
static bool vl_pcm_changes(const struct snd_pcm_substream *substream)
{
#if VL_HAVE_BUFFER_ACCESSING
	return atomic_read(&substream->runtime->buffer_accessing) < 0;
#else
	return false;
#endif
}

/* Context: stream locked. What is passed over is not lost: PREPARE is next. */
static int vl_pcm_ack(struct snd_pcm_substream *substream)
{
	switch (vl_pcm_state(substream->runtime)) {
	case SNDRV_PCM_STATE_PREPARED:
	case SNDRV_PCM_STATE_RUNNING:
	case SNDRV_PCM_STATE_DRAINING:
	case SNDRV_PCM_STATE_PAUSED:
		break;
	default:
		return 0;
	}
	if (vl_pcm_changes(substream))
		return 0;
	return vl_pcm_original(substream)->ack(substream);
}

/*
 * A stream has not been started after all: what snd_pcm_undo_start() and
 * snd_pcm_undo_pause() do for one alone. Where a drain has started it, which the
 * core does not hear the result of, the drain ends with an error.
 * Context: stream locked.
 */
static void vl_pcm_undo(struct snd_pcm_substream *substream, int command)
{
	const struct snd_pcm_ops *ops = vl_pcm_original(substream);

	if (command == SNDRV_PCM_TRIGGER_START) {
		ops->trigger(substream, SNDRV_PCM_TRIGGER_STOP);
		substream->runtime->stop_operating = true;
	} else {
		ops->trigger(substream, SNDRV_PCM_TRIGGER_PAUSE_PUSH);
	}
}

/* Context: stream locked. */
static int vl_pcm_trigger(struct snd_pcm_substream *substream, int command)
{
	int err;

	if (command == SNDRV_PCM_TRIGGER_START) {
		if (vl_pcm_changes(substream))
			return -EBUSY;
		/* It is being closed, and has been stopped for the last time. */
		if (!READ_ONCE(substream->ref_count))
			return -EBADFD;
	}
	err = vl_pcm_original(substream)->trigger(substream, command);
	if (err < 0 && snd_pcm_stream_linked(substream) &&
	    (command == SNDRV_PCM_TRIGGER_START ||
	     command == SNDRV_PCM_TRIGGER_PAUSE_RELEASE))
		vl_pcm_undo(substream, command);
	return err;
}

/* The sound core has looked at the state before it waited, and unlocked. */
static int vl_pcm_prepare(struct snd_pcm_substream *substream)
{
	/* As the sound core locks a stream whose functions may sleep. */
	struct mutex *mutex = &substream->self_group.mutex;
	int err;

	mutex_lock(mutex);
	if (snd_pcm_running(substream) ||
	    vl_pcm_state(substream->runtime) == SNDRV_PCM_STATE_PAUSED)
		err = -EBUSY;
	else
		err = vl_pcm_original(substream)->prepare(substream);
	mutex_unlock(mutex);
	return err;
}

static void vl_pcm_guard_stream(struct vl_device *vl, struct snd_pcm *pcm,
				int direction)
{
	struct snd_pcm_substream *substream = pcm->streams[direction].substream;
	struct snd_pcm_ops *ops = &vl->pcm_ops[direction];

	/* virtio_snd has the same functions for all streams of a direction. */
	if (substream && !vl->pcm_original[direction]) {
		vl->pcm_original[direction] = substream->ops;
		*ops = *substream->ops;
		if (ops->ack)
			ops->ack = vl_pcm_ack;
		ops->trigger = vl_pcm_trigger;
		ops->prepare = vl_pcm_prepare;
	}
	for (; substream; substream = substream->next)
		if (substream->ops == vl->pcm_original[direction])
			/* The table first: who has the stream open reads it. */
			smp_store_release(&substream->ops, ops);
}

static int vl_pcm_guard_card(struct device *child, void *data)
{
	struct snd_device *device;
	struct snd_pcm *pcm;

	if (!vl_is_sound(child))
		return 0;
	list_for_each_entry(device, &dev_to_snd_card(child)->devices, list) {
		if (device->type != SNDRV_DEV_PCM)
			continue;
		pcm = device->device_data;
		if (!pcm->nonatomic)
			continue;
		vl_pcm_guard_stream(data, pcm, SNDRV_PCM_STREAM_PLAYBACK);
		vl_pcm_guard_stream(data, pcm, SNDRV_PCM_STREAM_CAPTURE);
	}
	return 0;
}

/* Context: virtio_snd has been bound, with the device's lock held. */
void vl_pcm_guard(struct vl_device *vl)
{
	BUILD_BUG_ON(ARRAY_SIZE(vl->pcm_ops) <= SNDRV_PCM_STREAM_LAST);
	device_for_each_child(&vl->vdev.dev, vl, vl_pcm_guard_card);
}
