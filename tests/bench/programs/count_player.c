// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * count_player PCM PERIOD PERIODS SECONDS
 *
 * Plays whole periods of numbered frames, one period a write, then a buffer of silence, and drains.
 * Prints what went wrong, and how long it took from running to drained, as a JSON object.
 */
#include "pcm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* An application that had so many underruns has long lost its listener. */
#define ENOUGH 10

struct play {
	snd_pcm_t *pcm;
	snd_pcm_uframes_t period;
	int64_t running;
	long underruns;
	int error;
};

/* Writes one period; false when it makes no sense to go on. */
static int write_period(struct play *play, const uint32_t *frames)
{
	snd_pcm_sframes_t written = snd_pcm_writei(play->pcm, frames, play->period);

	if (written == -EPIPE && ++play->underruns < ENOUGH && snd_pcm_prepare(play->pcm) == 0)
		return 1;
	if (written != (snd_pcm_sframes_t)play->period) {
		play->error = written < 0 ? written : -EIO;
		return 0;
	}
	if (!play->running && snd_pcm_state(play->pcm) == SND_PCM_STATE_RUNNING)
		play->running = now();
	return 1;
}

int main(int count, char **words)
{
	struct play play = { 0 };
	long periods, sound, at = 0;
	uint32_t *frames;
	int64_t drained;

	if (count != 5) {
		fprintf(stderr, "usage: count_player PCM PERIOD PERIODS SECONDS\n");
		return 2;
	}
	play.period = number(words[2]);
	periods = number(words[3]);
	sound = number(words[4]) * RATE / play.period;
	frames = calloc(play.period, sizeof(*frames));
	play.pcm = open_pcm(words[1], SND_PCM_STREAM_PLAYBACK, 0);
	set_parameters(play.pcm, play.period, play.period * periods);
	set_start(play.pcm, play.period * periods);
	for (; at < sound + periods; at++) {
		if (at < sound)
			count_up(frames, at * play.period, play.period);
		else
			memset(frames, 0, play.period * sizeof(*frames));
		if (!write_period(&play, frames))
			break;
	}
	if (!play.error)
		play.error = snd_pcm_drain(play.pcm);
	drained = now();
	printf("{\"frames\": %ld, \"written\": %ld, \"underruns\": %ld, \"error\": %d, \"running_ns\": %lld}\n",
	       (long)(sound * play.period), (long)(at * play.period), play.underruns, play.error,
	       (long long)(drained - play.running));
	snd_pcm_close(play.pcm);
	return 0;
}
