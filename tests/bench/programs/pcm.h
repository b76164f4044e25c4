/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the measuring programs share: a PCM with 48000 frames a second of two 16-bit samples, whose
 * frames carry their own numbers, and the clock.
 *
 * A frame is one 32-bit word, so frame number n of a sound is the word n + 1: the far side sees at
 * once which frame it got, and that none is lost, repeated or changed. Zero is silence.
 */
#ifndef PCM_H
#define PCM_H

#include <alsa/asoundlib.h>
#include <stdint.h>

#define RATE 48000
#define MILLISECOND 1000000LL

/* A way to say what is wrong and end. */
void die(const char *what, int error);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t now(void);
void sleep_for(int64_t nanoseconds);
/* The rest of the sleeps end on time, not up to 50 us later. */
void sleep_exactly(void);

/* A number from the command line. */
long number(const char *text);

snd_pcm_t *open_pcm(const char *name, snd_pcm_stream_t stream, int mode);
/* Exactly this period and buffer, in frames. The PCM is prepared with it. */
void set_parameters(snd_pcm_t *pcm, snd_pcm_uframes_t period, snd_pcm_uframes_t buffer);
/* Playback starts by itself when so many frames are written. */
void set_start(snd_pcm_t *pcm, snd_pcm_uframes_t frames);
/* The far side of a real card, capturing. */
snd_pcm_t *start_listening(const char *name);
/* Reads what the far side has got since the last call, at most `room` frames. */
snd_pcm_sframes_t hear(snd_pcm_t *far, uint32_t *frames, snd_pcm_uframes_t room);

/* Writes `count` frames from number `first` on into `frames`. */
void count_up(uint32_t *frames, uint32_t first, snd_pcm_uframes_t count);

#endif
