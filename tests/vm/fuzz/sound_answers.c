// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What a sound device answers to virtio_snd, so that cards come up and play: streams in pairs, one
 * each way, channel maps and controls of all types. With lies among it.
 */
#include <string.h>

#include <linux/virtio_snd.h>

#include "fuzz.h"

/* Of controls, which the header has not had always: virtio 1.3, 5.14.6.9. */
#define CTL_INFO 0x0300
#define CTL_TLV_READ 0x0304
#define CTL_EVENT 0x1200
#define CTL_TYPES 6

struct control_info {
	uint32_t nid, role, type, access, count, index;
	uint8_t name[48];
	uint64_t value[3];
};

enum { CONTROL_QUEUE, EVENT_QUEUE, TX_QUEUE, RX_QUEUE };

/* virtio_snd asks for memory for as many as its device says, and warns where there is none. */
void sound_config(struct fuzzer *fuzzer, uint8_t *config)
{
	static const uint32_t limits[] = { 3, 5, 4, 12 }; /* jacks, streams, channel maps, controls */
	uint32_t counts[4];

	for (int i = 0; i < 4; i++)
		counts[i] = fuzz_below(fuzzer, limits[i]);
	memcpy(config, counts, sizeof(counts));
}

static void pcm_info(struct fuzzer *fuzzer, struct virtio_snd_pcm_info *info, uint32_t i)
{
	info->hdr.hda_fn_nid = i / 2;
	info->features = fuzz_one_in(fuzzer, 4) ? fuzz_below(fuzzer, 32) : 0;
	info->formats = 1 << VIRTIO_SND_PCM_FMT_S16 | (fuzz_one_in(fuzzer, 2) ? fuzz_below(fuzzer, 1 << 25) : 0);
	info->rates = 1 << VIRTIO_SND_PCM_RATE_48000 | (fuzz_one_in(fuzzer, 2) ? fuzz_below(fuzzer, 1 << 14) : 0);
	info->direction = i % 2;
	info->channels_min = 1;
	info->channels_max = 1 + fuzz_below(fuzzer, 8);
}

static void chmap_info(struct fuzzer *fuzzer, struct virtio_snd_chmap_info *info, uint32_t i)
{
	info->hdr.hda_fn_nid = i / 2;
	info->direction = i % 2;
	info->channels = 1 + fuzz_below(fuzzer, 8);
	for (int channel = 0; channel < info->channels; channel++)
		info->positions[channel] = VIRTIO_SND_CHMAP_MONO + channel;
}

static void control_info(struct fuzzer *fuzzer, struct control_info *info, uint32_t i)
{
	info->type = i % CTL_TYPES;
	info->access = fuzz_one_in(fuzzer, 4) ? fuzz_random(fuzzer) : 0x73; /* but volatile, inactive */
	info->count = 1 + fuzz_below(fuzzer, 4);
	info->index = i;
	strcpy((char *)info->name, "Fuzz Playback Volume");
	info->value[0] = fuzz_one_in(fuzzer, 8) ? fuzz_random(fuzzer) : 100ULL << 32; /* from 0 to 100 */
	info->value[1] = 100;
}

/* What comes after the status, if the question asks for more than that. */
static void sound_info(struct fuzzer *fuzzer, uint32_t code, uint8_t *data, uint32_t length)
{
	static const uint32_t decibels[] = { 1, 8, -5000, 100 };
	uint32_t i;

	switch (code) {
	case VIRTIO_SND_R_PCM_INFO:
		for (i = 0; i < length / sizeof(struct virtio_snd_pcm_info); i++)
			pcm_info(fuzzer, (struct virtio_snd_pcm_info *)data + i, i);
		break;
	case VIRTIO_SND_R_CHMAP_INFO:
		for (i = 0; i < length / sizeof(struct virtio_snd_chmap_info); i++)
			chmap_info(fuzzer, (struct virtio_snd_chmap_info *)data + i, i);
		break;
	case CTL_INFO:
		for (i = 0; i < length / sizeof(struct control_info); i++)
			control_info(fuzzer, (struct control_info *)data + i, i);
		break;
	case CTL_TLV_READ:
		memcpy(data, decibels, length < sizeof(decibels) ? length : sizeof(decibels));
	}
}

static void sound_event(struct fuzzer *fuzzer, const struct part *part)
{
	static const uint32_t codes[] = {
		VIRTIO_SND_EVT_JACK_CONNECTED, VIRTIO_SND_EVT_JACK_DISCONNECTED, VIRTIO_SND_EVT_PCM_PERIOD_ELAPSED,
		VIRTIO_SND_EVT_PCM_XRUN, CTL_EVENT,
	};
	/* Of controls, the second word is a number and what has changed of it. */
	uint32_t event[] = { codes[fuzz_below(fuzzer, 5)], fuzz_below(fuzzer, 12) | fuzz_below(fuzzer, 8) << 16 };

	memcpy(part->start, event, part->length < sizeof(event) ? part->length : sizeof(event));
}

void sound_answer(struct fuzzer *fuzzer, unsigned int index, const struct message *message)
{
	uint32_t code = 0, status = VIRTIO_SND_S_OK;
	bool first = true;

	if (fuzz_one_in(fuzzer, fuzzer->honesty))
		status += 1 + fuzz_below(fuzzer, 4);
	if (!message->parts[0].writable && message->parts[0].length >= sizeof(code))
		memcpy(&code, message->parts[0].start, sizeof(code));
	for (unsigned int i = 0; i < message->count; i++) {
		const struct part *part = &message->parts[i];

		if (!part->writable)
			continue;
		memset(part->start, 0, part->length);
		if (fuzz_one_in(fuzzer, fuzzer->honesty))
			fuzz_fill(fuzzer, part->start, part->length);
		else if (index == CONTROL_QUEUE && !first)
			sound_info(fuzzer, code, part->start, part->length);
		if (index == EVENT_QUEUE)
			sound_event(fuzzer, part);
		else if (first || index == RX_QUEUE)
			memcpy(part->start, &status, part->length < 4 ? part->length : 4);
		first = false;
	}
	if (index == TX_QUEUE || index == RX_QUEUE)
		count(index == TX_QUEUE ? PLAYED : CAPTURED);
}
