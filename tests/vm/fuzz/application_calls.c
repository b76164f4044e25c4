// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* What applications ask of the sound cards that virtio_snd makes of our devices, and of no others. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sound/asound.h>

#include "fuzz.h"

#define OUR_CARDS "/sys/class/virtio-loopback/*/virtio*/sound/card*/"
#define PAGE 4096
#define MOST_FRAMES 4096
#define LARGEST_FRAME 2048 /* 255 channels of 8 bytes */
#define SOME_TIMES 8

/* Nobody minds what is in it. */
static uint8_t sound[MOST_FRAMES * LARGEST_FRAME];

/* One that is open, if there is: many calls would be for nothing otherwise. */
static int pick(struct fuzzer *fuzzer, enum kind kind)
{
	int fd = -1;

	for (int i = 0; fd < 0 && i < SOME_TIMES; i++)
		fd = object_get(fuzzer, kind);
	return fd;
}

static bool call_of(enum kind kind, int fd, unsigned long number, void *argument)
{
	int result = ioctl(fd, number, argument);

	count(CALLS);
	if (result >= 0)
		count(SUCCESSES);
	else if (errno == ENODEV) /* its card has gone */
		object_forget(kind, fd);
	return result >= 0;
}

static bool call(int pcm, unsigned long number, void *argument)
{
	return call_of(PCM, pcm, number, argument);
}

/*
 * PREPARE or RESET, by one thread at a time: the sound core locks a stream, then those that are linked
 * with it, so two threads that ask for two streams of one group may wait for each other for ever.
 */
static void call_of_group(int pcm, unsigned long number)
{
	static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;

	if (pthread_mutex_trylock(&busy))
		return;
	call(pcm, number, NULL);
	pthread_mutex_unlock(&busy);
}

/* Calls of files that wait would do so for as long as somebody likes. */
static void open_one(struct fuzzer *fuzzer, enum kind kind, const char *pattern)
{
	char device[64];
	glob_t found;

	count(CALLS);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
		const char *path = found.gl_pathv[fuzz_below(fuzzer, found.gl_pathc)];
		int fd;

		snprintf(device, sizeof(device), "/dev/snd/%s", strrchr(path, '/') + 1);
		fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			count(OPENED);
		object_keep(fuzzer, kind, fd);
	}
	globfree(&found);
}

static void set_mask(struct snd_pcm_hw_params *params, int parameter, unsigned int bit)
{
	struct snd_mask *mask = &params->masks[parameter - SNDRV_PCM_HW_PARAM_FIRST_MASK];

	memset(mask, 0, sizeof(*mask));
	mask->bits[bit / 32] = 1U << bit % 32;
	params->rmask |= 1U << parameter;
}

/* A value that may be, mostly: one of the edges, or between them. */
static void set_interval(struct fuzzer *fuzzer, struct snd_pcm_hw_params *params, int parameter)
{
	struct snd_interval *interval = &params->intervals[parameter - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL];
	unsigned int value = interval->min;

	if (fuzz_one_in(fuzzer, 2) && interval->max > interval->min)
		value += fuzz_below(fuzzer, (uint64_t)interval->max - interval->min + 1);
	if (fuzz_one_in(fuzzer, 100))
		value = fuzz_number(fuzzer);
	*interval = (struct snd_interval){ .min = value, .max = value, .integer = 1 };
	params->rmask |= 1U << parameter;
}

static void choose_parameters(struct fuzzer *fuzzer, int pcm)
{
	static const int intervals[] = {
		SNDRV_PCM_HW_PARAM_CHANNELS, SNDRV_PCM_HW_PARAM_RATE, SNDRV_PCM_HW_PARAM_PERIOD_SIZE,
		SNDRV_PCM_HW_PARAM_BUFFER_SIZE, SNDRV_PCM_HW_PARAM_PERIODS,
	};
	struct snd_pcm_hw_params params = { .rmask = ~0U };

	memset(params.masks, 0xff, sizeof(params.masks));
	for (size_t i = 0; i < sizeof(params.intervals) / sizeof(*params.intervals); i++)
		params.intervals[i].max = UINT_MAX;
	set_mask(&params, SNDRV_PCM_HW_PARAM_ACCESS,
		 fuzz_one_in(fuzzer, 2) ? SNDRV_PCM_ACCESS_MMAP_INTERLEAVED : SNDRV_PCM_ACCESS_RW_INTERLEAVED);
	if (!fuzz_one_in(fuzzer, 8))
		set_mask(&params, SNDRV_PCM_HW_PARAM_FORMAT, SNDRV_PCM_FORMAT_S16_LE);
	for (size_t i = 0; i < sizeof(intervals) / sizeof(*intervals); i++) {
		if (!call(pcm, SNDRV_PCM_IOCTL_HW_REFINE, fuzz_pointer(fuzzer, &params)))
			return;
		if (fuzz_one_in(fuzzer, 2))
			set_interval(fuzzer, &params, intervals[i]);
	}
	if (call(pcm, SNDRV_PCM_IOCTL_HW_PARAMS, fuzz_pointer(fuzzer, &params)))
		count(PARAMETERS);
}

static void choose_thresholds(struct fuzzer *fuzzer, int pcm)
{
	struct snd_pcm_sw_params params = {
		.period_step = 1,
		.avail_min = 1 + fuzz_below(fuzzer, MOST_FRAMES),
		.start_threshold = fuzz_one_in(fuzzer, 4) ? fuzz_number(fuzzer) : 1 + fuzz_below(fuzzer, MOST_FRAMES),
		.stop_threshold = fuzz_one_in(fuzzer, 2) ? fuzz_number(fuzzer) : LONG_MAX,
		.silence_threshold = fuzz_one_in(fuzzer, 8) ? fuzz_number(fuzzer) : 0,
		.silence_size = fuzz_one_in(fuzzer, 8) ? fuzz_number(fuzzer) : 0,
	};

	call(pcm, SNDRV_PCM_IOCTL_SW_PARAMS, fuzz_pointer(fuzzer, &params));
}

/* What is played comes from anywhere, what is captured goes where it does no harm. */
static void transfer(struct fuzzer *fuzzer, int pcm)
{
	struct mapping mapping = mapping_get(fuzzer);
	struct snd_xferi frames = { .buf = sound, .frames = fuzz_below(fuzzer, MOST_FRAMES) };
	bool capture = fuzz_one_in(fuzzer, 2);

	if (!capture && mapping.start && fuzz_one_in(fuzzer, 4))
		frames.buf = mapping.start;
	frames.buf = fuzz_pointer(fuzzer, frames.buf);
	call(pcm, capture ? SNDRV_PCM_IOCTL_READI_FRAMES : SNDRV_PCM_IOCTL_WRITEI_FRAMES,
	     fuzz_pointer(fuzzer, &frames));
}

/* As who has the buffer mapped: tells how far he has come. */
static void advance(struct fuzzer *fuzzer, int pcm)
{
	struct snd_pcm_sync_ptr pointers = {
		.flags = SNDRV_PCM_SYNC_PTR_HWSYNC | SNDRV_PCM_SYNC_PTR_APPL | SNDRV_PCM_SYNC_PTR_AVAIL_MIN,
	};

	if (!call(pcm, SNDRV_PCM_IOCTL_SYNC_PTR, &pointers))
		return;
	pointers.flags = fuzz_one_in(fuzzer, 8) ? fuzz_below(fuzzer, 8) : SNDRV_PCM_SYNC_PTR_AVAIL_MIN;
	pointers.c.control.appl_ptr += fuzz_below(fuzzer, MOST_FRAMES);
	if (fuzz_one_in(fuzzer, 16))
		pointers.c.control.appl_ptr = fuzz_number(fuzzer);
	call(pcm, SNDRV_PCM_IOCTL_SYNC_PTR, fuzz_pointer(fuzzer, &pointers));
}

static void map(struct fuzzer *fuzzer, int pcm)
{
	static const off_t places[] = {
		SNDRV_PCM_MMAP_OFFSET_STATUS_OLD, SNDRV_PCM_MMAP_OFFSET_CONTROL_OLD,
		SNDRV_PCM_MMAP_OFFSET_STATUS_NEW, SNDRV_PCM_MMAP_OFFSET_CONTROL_NEW, PAGE,
	};
	size_t length = PAGE * (1 + fuzz_below(fuzzer, 16));
	off_t offset = SNDRV_PCM_MMAP_OFFSET_DATA;
	void *start;

	if (fuzz_one_in(fuzzer, 4)) {
		offset = places[fuzz_below(fuzzer, sizeof(places) / sizeof(*places))];
		length = PAGE;
	}
	start = mmap(NULL, length, fuzz_one_in(fuzzer, 8) ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, pcm, offset);
	count(CALLS);
	if (start == MAP_FAILED)
		return;
	count(MAPPED);
	mapping_keep(fuzzer, (struct mapping){ start, length });
}

/* A file that waits is not drained: it does so for as long as its device likes. */
static void control_stream(struct fuzzer *fuzzer, int pcm)
{
	static const unsigned long numbers[] = {
		SNDRV_PCM_IOCTL_START, SNDRV_PCM_IOCTL_DROP, SNDRV_PCM_IOCTL_DRAIN, SNDRV_PCM_IOCTL_RESUME,
		SNDRV_PCM_IOCTL_XRUN, SNDRV_PCM_IOCTL_HWSYNC, SNDRV_PCM_IOCTL_HW_FREE, SNDRV_PCM_IOCTL_UNLINK,
	};
	static const unsigned long told[] = { SNDRV_PCM_IOCTL_REWIND, SNDRV_PCM_IOCTL_FORWARD };
	static const unsigned long asked[] = {
		SNDRV_PCM_IOCTL_INFO, SNDRV_PCM_IOCTL_STATUS, SNDRV_PCM_IOCTL_STATUS_EXT, SNDRV_PCM_IOCTL_DELAY,
		SNDRV_PCM_IOCTL_CHANNEL_INFO, SNDRV_PCM_IOCTL_TTSTAMP, SNDRV_PCM_IOCTL_USER_PVERSION,
	};
	uint8_t answer[512] = { 0 };
	snd_pcm_uframes_t frames = fuzz_below(fuzzer, MOST_FRAMES);

	switch (fuzz_below(fuzzer, 8)) {
	case 0: /* the number is no address */
		call(pcm, SNDRV_PCM_IOCTL_PAUSE, (void *)fuzz_below(fuzzer, 2));
		break;
	case 1:
		call(pcm, SNDRV_PCM_IOCTL_LINK, (void *)(intptr_t)pick(fuzzer, PCM));
		break;
	case 2:
		call(pcm, told[fuzz_below(fuzzer, 2)], fuzz_pointer(fuzzer, &frames));
		break;
	case 3:
		call(pcm, asked[fuzz_below(fuzzer, sizeof(asked) / sizeof(*asked))], fuzz_pointer(fuzzer, answer));
		break;
	case 4:
		call_of_group(pcm, fuzz_one_in(fuzzer, 4) ? SNDRV_PCM_IOCTL_RESET : SNDRV_PCM_IOCTL_PREPARE);
		break;
	default:
		call(pcm, numbers[fuzz_below(fuzzer, sizeof(numbers) / sizeof(*numbers))], NULL);
	}
}

/* What there has to be for sound, in order. */
static void play(struct fuzzer *fuzzer, int pcm)
{
	choose_parameters(fuzzer, pcm);
	choose_thresholds(fuzzer, pcm);
	call_of_group(pcm, SNDRV_PCM_IOCTL_PREPARE);
	for (int i = 0; i < SOME_TIMES; i++)
		transfer(fuzzer, pcm);
	call(pcm, SNDRV_PCM_IOCTL_START, NULL);
}

static void pcm_call(struct fuzzer *fuzzer, int pcm)
{
	struct pollfd poll_for = { .fd = pcm, .events = POLLIN | POLLOUT };

	switch (fuzz_below(fuzzer, 16)) {
	case 0:
		choose_parameters(fuzzer, pcm);
		break;
	case 1:
		choose_thresholds(fuzzer, pcm);
		break;
	case 2:
		map(fuzzer, pcm);
		break;
	case 3:
		poll(&poll_for, 1, 0);
		count(CALLS);
		break;
	case 4:
		if (fuzz_one_in(fuzzer, 4))
			object_keep(fuzzer, PCM, dup(pcm));
		else if (fuzz_one_in(fuzzer, 4))
			object_forget(PCM, pcm);
		break;
	case 5:
		play(fuzzer, pcm);
		break;
	case 6:
	case 7:
		advance(fuzzer, pcm);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
		transfer(fuzzer, pcm);
		break;
	default:
		control_stream(fuzzer, pcm);
	}
}

static void use_metadata(struct fuzzer *fuzzer, int mixer, unsigned int number)
{
	static const unsigned long numbers[] = {
		SNDRV_CTL_IOCTL_TLV_READ, SNDRV_CTL_IOCTL_TLV_READ, SNDRV_CTL_IOCTL_TLV_WRITE, SNDRV_CTL_IOCTL_TLV_COMMAND,
	};
	struct {
		struct snd_ctl_tlv head;
		uint8_t room[4096];
	} tlv = { .head.numid = number, .head.length = fuzz_below(fuzzer, sizeof(tlv.room)) };

	if (call_of(MIXER, mixer, numbers[fuzz_below(fuzzer, 4)], fuzz_pointer(fuzzer, &tlv)))
		count(METADATA);
}

static void mixer_call(struct fuzzer *fuzzer, int mixer)
{
	unsigned int number = 1 + fuzz_below(fuzzer, 24);
	struct snd_ctl_elem_value value = { .id.numid = number };
	struct snd_ctl_elem_info info = { .id.numid = number, .value.enumerated.item = fuzz_number(fuzzer) };
	struct pollfd poll_for = { .fd = mixer, .events = POLLIN };
	struct snd_ctl_event event;
	int on = fuzz_below(fuzzer, 2);

	switch (fuzz_below(fuzzer, 8)) {
	case 0:
	case 1:
		use_metadata(fuzzer, mixer, number);
		break;
	case 2:
	case 3:
		if (call_of(MIXER, mixer, SNDRV_CTL_IOCTL_ELEM_READ, fuzz_pointer(fuzzer, &value)))
			count(ELEMENTS);
		break;
	case 4:
		fuzz_fill(fuzzer, &value.value, sizeof(value.value));
		call_of(MIXER, mixer, SNDRV_CTL_IOCTL_ELEM_WRITE, fuzz_pointer(fuzzer, &value));
		break;
	case 5:
		call_of(MIXER, mixer, SNDRV_CTL_IOCTL_ELEM_INFO, fuzz_pointer(fuzzer, &info));
		break;
	case 6:
		call_of(MIXER, mixer, on ? SNDRV_CTL_IOCTL_ELEM_LOCK : SNDRV_CTL_IOCTL_ELEM_UNLOCK, &value.id);
		break;
	default:
		call_of(MIXER, mixer, SNDRV_CTL_IOCTL_SUBSCRIBE_EVENTS, &on);
		if (poll(&poll_for, 1, 0) > 0)
			(void)!read(mixer, &event, sizeof(event));
	}
}

void application_call(struct fuzzer *fuzzer)
{
	int pcm = pick(fuzzer, PCM), mixer = pick(fuzzer, MIXER);

	if (pcm < 0 || fuzz_one_in(fuzzer, 32))
		open_one(fuzzer, PCM, OUR_CARDS "pcmC*");
	else if (mixer < 0 || fuzz_one_in(fuzzer, 64))
		open_one(fuzzer, MIXER, OUR_CARDS "controlC*");
	else if (fuzz_one_in(fuzzer, 6))
		mixer_call(fuzzer, mixer);
	else
		pcm_call(fuzzer, pcm);
}
