// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hwrng_read COUNT
 *
 * Reads 64 bytes from /dev/hwrng again and again; prints the nanoseconds of each as a JSON list. With a
 * virtio_rng as its source, each is one request to a device and its answer.
 */
#include "pcm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define REQUEST 64

int main(int count, char **words)
{
	char bytes[REQUEST];
	int file = open("/dev/hwrng", O_RDONLY);
	long times;

	if (count != 2 || file < 0) {
		perror("usage: hwrng_read COUNT; /dev/hwrng");
		return 2;
	}
	times = number(words[1]);
	for (long at = 0; at < times; at++) {
		int64_t start = now();
		ssize_t got = read(file, bytes, REQUEST);
		int64_t end = now();

		if (got != REQUEST)
			die("/dev/hwrng", got < 0 ? -errno : -EIO);
		printf("%s%lld", at ? ", " : "[", (long long)(end - start));
	}
	printf("]\n");
	return 0;
}
