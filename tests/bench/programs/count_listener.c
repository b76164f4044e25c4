// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * count_listener FAR FRAMES
 *
 * Listens at the far side of a real card to FRAMES numbered frames; says "listening" when it does,
 * and at the end what it heard, as a JSON object. It ends when it has got them all, or has heard
 * nothing but silence for two seconds, or nothing at all for thirty.
 */
#include "pcm.h"

#include <stdio.h>
#include <stdlib.h>

#define SILENT_END (2LL * RATE)
#define SILENT_START (30LL * RATE)
#define PAUSE (100 * MILLISECOND)

struct ear {
	uint32_t expected; /* the next frame's word */
	long right, wrong;
	long long first_wrong; /* in front of which frame, or -1 */
	long long silent;
};

static void judge(struct ear *ear, uint32_t frame)
{
	ear->silent = frame ? 0 : ear->silent + 1;
	if (ear->expected == 1 && !frame)
		return; /* before the start */
	if (frame == ear->expected) {
		ear->right++;
		ear->expected++;
		return;
	}
	if (ear->first_wrong < 0)
		ear->first_wrong = ear->expected - 1;
	ear->wrong++;
	if (frame)
		ear->expected = frame + 1;
}

int main(int count, char **words)
{
	static uint32_t heard[RATE];
	struct ear ear = { .expected = 1, .first_wrong = -1 };
	uint32_t frames;
	snd_pcm_t *far;

	if (count != 3) {
		fprintf(stderr, "usage: count_listener FAR FRAMES\n");
		return 2;
	}
	frames = number(words[2]);
	far = start_listening(words[1]);
	printf("listening\n");
	fflush(stdout);
	while (ear.expected <= frames && ear.silent < (ear.expected == 1 ? SILENT_START : SILENT_END)) {
		snd_pcm_sframes_t got = hear(far, heard, RATE);

		for (snd_pcm_sframes_t at = 0; at < got && ear.expected <= frames; at++)
			judge(&ear, heard[at]);
		sleep_for(PAUSE);
	}
	printf("{\"right\": %ld, \"wrong\": %ld, \"first_wrong\": %lld, \"last\": %ld}\n", ear.right, ear.wrong,
	       ear.first_wrong, (long)ear.expected - 1);
	snd_pcm_close(far);
	return 0;
}
