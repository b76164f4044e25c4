// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * control_request PCM PERIOD PERIODS COUNT PAUSE
 *
 * Prepares a PCM again and again, with PAUSE microseconds between; prints the nanoseconds of each as
 * a JSON list. On a virtual card each is one PREPARE request and its answer. Without a pause the
 * device has not gone to sleep again when the next request comes, and needs no kick.
 */
#include "pcm.h"

#include <stdio.h>

int main(int count, char **words)
{
	snd_pcm_uframes_t period;
	snd_pcm_t *pcm;
	long times, pause;

	if (count != 6) {
		fprintf(stderr, "usage: control_request PCM PERIOD PERIODS COUNT PAUSE\n");
		return 2;
	}
	period = number(words[2]);
	times = number(words[4]);
	pause = number(words[5]);
	pcm = open_pcm(words[1], SND_PCM_STREAM_PLAYBACK, 0);
	set_parameters(pcm, period, period * number(words[3]));
	for (long at = 0; at < times; at++) {
		int64_t start = now();
		int error = snd_pcm_prepare(pcm);
		int64_t end = now();

		if (error < 0)
			die("prepare", error);
		if (pause)
			sleep_for(pause * 1000);
		printf("%s%lld", at ? ", " : "[", (long long)(end - start));
	}
	printf("]\n");
	snd_pcm_close(pcm);
	return 0;
}
