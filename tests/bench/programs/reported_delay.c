// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * reported_delay PCM FAR PERIOD PERIODS SECONDS
 *
 * Plays numbered frames and, after every write, compares the delay that the PCM reports with the
 * true one: frames written so far without those that the far side has got. Prints reported minus
 * true, in frames, as a JSON list.
 */
#include "pcm.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
	static uint32_t heard[RATE];
	snd_pcm_uframes_t period, buffer;
	uint32_t last = 0, *frames;
	snd_pcm_t *pcm, *far;
	long writes, printed = 0;

	if (count != 6) {
		fprintf(stderr, "usage: reported_delay PCM FAR PERIOD PERIODS SECONDS\n");
		return 2;
	}
	period = number(words[3]);
	buffer = period * number(words[4]);
	writes = number(words[5]) * RATE / period;
	frames = malloc(period * sizeof(*frames));
	far = start_listening(words[2]);
	pcm = open_pcm(words[1], SND_PCM_STREAM_PLAYBACK, 0);
	set_parameters(pcm, period, buffer);
	set_start(pcm, buffer);
	for (long at = 0; at < writes; at++) {
		snd_pcm_sframes_t reported, got;
		int error;

		count_up(frames, at * period, period);
		error = snd_pcm_writei(pcm, frames, period);
		if (error < 0 || (error = snd_pcm_delay(pcm, &reported)) < 0)
			die("playback", error);
		got = hear(far, heard, RATE);
		if (got > 0 && heard[got - 1])
			last = heard[got - 1];
		if (last)
			printf("%s%ld", printed++ ? ", " : "[", reported - ((at + 1) * (long)period - (long)last));
	}
	printf("%s]\n", printed ? "" : "[");
	snd_pcm_drop(pcm);
	snd_pcm_close(pcm);
	snd_pcm_close(far);
	return 0;
}
