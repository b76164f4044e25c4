// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#include "pcm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

/* The far side keeps one second. */
#define FAR_BUFFER RATE
#define FAR_PERIOD (RATE / 10)

void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, snd_strerror(error));
	exit(1);
}

int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void sleep_for(int64_t nanoseconds)
{
	struct timespec time = { nanoseconds / 1000000000, nanoseconds % 1000000000 };

	nanosleep(&time, NULL);
}

void sleep_exactly(void)
{
	prctl(PR_SET_TIMERSLACK, 1);
}

long number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*end || value < 0)
		die(text, -EINVAL);
	return value;
}

snd_pcm_t *open_pcm(const char *name, snd_pcm_stream_t stream, int mode)
{
	snd_pcm_t *pcm;
	int error = snd_pcm_open(&pcm, name, stream, mode);

	if (error < 0)
		die(name, error);
	return pcm;
}

void set_parameters(snd_pcm_t *pcm, snd_pcm_uframes_t period, snd_pcm_uframes_t buffer)
{
	snd_pcm_hw_params_t *hw;
	int error;

	snd_pcm_hw_params_alloca(&hw);
	if ((error = snd_pcm_hw_params_any(pcm, hw)) < 0 ||
	    (error = snd_pcm_hw_params_set_access(pcm, hw, SND_PCM_ACCESS_RW_INTERLEAVED)) < 0 ||
	    (error = snd_pcm_hw_params_set_format(pcm, hw, SND_PCM_FORMAT_S16_LE)) < 0 ||
	    (error = snd_pcm_hw_params_set_channels(pcm, hw, 2)) < 0 ||
	    (error = snd_pcm_hw_params_set_rate(pcm, hw, RATE, 0)) < 0 ||
	    (error = snd_pcm_hw_params_set_period_size(pcm, hw, period, 0)) < 0 ||
	    (error = snd_pcm_hw_params_set_buffer_size(pcm, hw, buffer)) < 0 ||
	    (error = snd_pcm_hw_params(pcm, hw)) < 0)
		die("hw_params", error);
}

void set_start(snd_pcm_t *pcm, snd_pcm_uframes_t frames)
{
	snd_pcm_sw_params_t *sw;
	int error;

	snd_pcm_sw_params_alloca(&sw);
	if ((error = snd_pcm_sw_params_current(pcm, sw)) < 0 ||
	    (error = snd_pcm_sw_params_set_start_threshold(pcm, sw, frames)) < 0 ||
	    (error = snd_pcm_sw_params(pcm, sw)) < 0)
		die("sw_params", error);
}

snd_pcm_t *start_listening(const char *name)
{
	snd_pcm_t *far = open_pcm(name, SND_PCM_STREAM_CAPTURE, SND_PCM_NONBLOCK);
	int error;

	set_parameters(far, FAR_PERIOD, FAR_BUFFER);
	error = snd_pcm_start(far);
	if (error < 0)
		die(name, error);
	return far;
}

snd_pcm_sframes_t hear(snd_pcm_t *far, uint32_t *frames, snd_pcm_uframes_t room)
{
	snd_pcm_sframes_t count = snd_pcm_avail(far);

	if (count > 0)
		count = snd_pcm_readi(far, frames, (snd_pcm_uframes_t)count < room ? (snd_pcm_uframes_t)count : room);
	if (count < 0 && count != -EAGAIN)
		die("far side", count);
	return count < 0 ? 0 : count;
}

void count_up(uint32_t *frames, uint32_t first, snd_pcm_uframes_t count)
{
	for (snd_pcm_uframes_t at = 0; at < count; at++)
		frames[at] = first + at + 1;
}
