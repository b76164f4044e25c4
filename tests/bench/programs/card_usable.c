// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * card_usable CARD COMMAND...
 *
 * Starts COMMAND and prints the nanoseconds, from before it was started, until the PCM of CARD can be
 * opened. COMMAND is ended then.
 */
#include "pcm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL 50000
#define LIMIT (20000 * MILLISECOND)

static void say_nothing(const char *file, int line, const char *function, int error, const char *format, ...)
{
	(void)file, (void)line, (void)function, (void)error, (void)format;
}

/* Whether the card's PCM opens. */
static int usable(const char *folder, const char *name)
{
	snd_pcm_t *pcm;

	if (access(folder, F_OK) || snd_pcm_open(&pcm, name, SND_PCM_STREAM_PLAYBACK, SND_PCM_NONBLOCK) < 0)
		return 0;
	snd_pcm_close(pcm);
	return 1;
}

int main(int count, char **words)
{
	char folder[64], name[64];
	int64_t start, end;
	pid_t child;

	if (count < 3) {
		fprintf(stderr, "usage: card_usable CARD COMMAND...\n");
		return 2;
	}
	snprintf(folder, sizeof(folder), "/proc/asound/%s", words[1]);
	snprintf(name, sizeof(name), "hw:%s", words[1]);
	snd_lib_error_set_handler(say_nothing);
	snd_config_update();
	sleep_exactly();
	start = now();
	child = fork();
	if (child == 0) {
		execv(words[2], words + 2);
		perror(words[2]);
		_exit(127);
	}
	while (!usable(folder, name) && now() - start < LIMIT && waitpid(child, NULL, WNOHANG) == 0)
		sleep_for(POLL);
	end = usable(folder, name) ? now() : 0;
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	if (!end) {
		fprintf(stderr, "card_usable: %s did not come\n", words[1]);
		return 1;
	}
	printf("%lld\n", (long long)(end - start));
	return 0;
}
