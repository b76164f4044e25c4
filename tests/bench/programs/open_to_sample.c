// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * open_to_sample PCM FAR|- PERIOD PERIODS TIMES
 *
 * Opens a PCM and plays, TIMES times; prints the nanoseconds of each step, one JSON object a time:
 * open, hw_params (with the prepare that is part of it), prepare (a further one), trigger (the
 * write after which the PCM is running), and, from before open on, until the far side of the real
 * card sees the first sample.
 *
 * snd-aloop moves with the kernel's tick, so it shows a sample up to a tick late. The times begin at
 * evenly spread places within a tick: their mean is late by half a tick, whatever PCM it is.
 */
#include "pcm.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TICK (4 * MILLISECOND)
#define POLL 50000
#define SILENT_FOR (500 * MILLISECOND)

static int64_t coarse(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Waits until `phase` nanoseconds after a tick. */
static void wait_for_phase(int64_t phase)
{
	int64_t before = coarse();

	while (coarse() == before)
		;
	before = now();
	while (now() - before < phase)
		;
}

/* When the far side saw a sample that is no silence. */
static int64_t first_sample(snd_pcm_t *far, int64_t start)
{
	static uint32_t heard[RATE];

	while (now() - start < SILENT_FOR) {
		snd_pcm_sframes_t count = hear(far, heard, RATE);
		int64_t time = now();

		for (snd_pcm_sframes_t at = 0; at < count; at++)
			if (heard[at])
				return time;
		sleep_for(POLL);
	}
	fprintf(stderr, "the far side heard nothing\n");
	exit(1);
}

static void measure(const char *name, const char *far_name, snd_pcm_uframes_t period, long periods, int64_t phase)
{
	uint32_t *frames = malloc(period * sizeof(*frames));
	snd_pcm_t *far = far_name[0] == '-' ? NULL : start_listening(far_name);
	int64_t start, opened, configured, ready, prepared, running, heard = 0;
	snd_pcm_t *pcm;
	int error;

	count_up(frames, 0, period);
	wait_for_phase(phase);
	start = now();
	pcm = open_pcm(name, SND_PCM_STREAM_PLAYBACK, 0);
	opened = now();
	set_parameters(pcm, period, period * periods);
	configured = now();
	set_start(pcm, 1);
	ready = now();
	error = snd_pcm_prepare(pcm);
	prepared = now();
	if (error < 0)
		die("prepare", error);
	error = snd_pcm_writei(pcm, frames, period);
	running = now();
	if (error < 0 || snd_pcm_state(pcm) != SND_PCM_STATE_RUNNING)
		die("write", error);
	for (long more = 1; more < periods; more++)
		snd_pcm_writei(pcm, frames, period);
	if (far)
		heard = first_sample(far, start) - start;
	snd_pcm_drop(pcm);
	snd_pcm_close(pcm);
	if (far)
		snd_pcm_close(far);
	free(frames);
	printf("{\"open\": %lld, \"hw_params\": %lld, \"prepare\": %lld, \"trigger\": %lld, \"first_sample\": %lld}\n",
	       (long long)(opened - start), (long long)(configured - opened), (long long)(prepared - ready),
	       (long long)(running - prepared), (long long)heard);
}

int main(int count, char **words)
{
	long times;

	if (count != 6) {
		fprintf(stderr, "usage: open_to_sample PCM FAR|- PERIOD PERIODS TIMES\n");
		return 2;
	}
	times = number(words[5]);
	sleep_exactly();
	snd_config_update();
	for (long at = 0; at < times; at++) {
		measure(words[1], words[2], number(words[3]), number(words[4]), (2 * at + 1) * TICK / (2 * times));
		sleep_for(100 * MILLISECOND);
	}
	return 0;
}
