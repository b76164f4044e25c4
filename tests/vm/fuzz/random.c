// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* Random numbers of a thread, and arguments made of them. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

/* xorshift64* */
uint64_t fuzz_random(struct fuzzer *fuzzer)
{
	uint64_t x = fuzzer->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	fuzzer->random = x;
	return x * 0x2545F4914F6CDD1DULL;
}

uint64_t fuzz_below(struct fuzzer *fuzzer, uint64_t limit)
{
	return (fuzz_random(fuzzer) >> 16) % limit;
}

bool fuzz_one_in(struct fuzzer *fuzzer, uint64_t n)
{
	return fuzz_below(fuzzer, n) == 0;
}

void fuzz_fill(struct fuzzer *fuzzer, void *data, size_t length)
{
	uint8_t *bytes = data;

	for (size_t i = 0; i < length; i++)
		bytes[i] = fuzz_random(fuzzer) >> 24;
}

uint64_t fuzz_number(struct fuzzer *fuzzer)
{
	static const uint64_t edges[] = {
		0, 1, 63, 64, 65, 4095, 4096, 4097, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffff000, 0xffffffffffffffff,
	};

	switch (fuzz_below(fuzzer, 4)) {
	case 0:
		return edges[fuzz_below(fuzzer, sizeof(edges) / sizeof(*edges))];
	case 1:
		return fuzz_random(fuzzer);
	default:
		return fuzz_below(fuzzer, 16);
	}
}

void *fuzz_pointer(struct fuzzer *fuzzer, void *good)
{
	static const uintptr_t bad[] = { 0, 1, 4096, 0x7ffffffff000, 0xffff888000000000, UINTPTR_MAX };

	if (!fuzz_one_in(fuzzer, 24))
		return good;
	return (void *)bad[fuzz_below(fuzzer, sizeof(bad) / sizeof(*bad))];
}

void name_of(unsigned int number, char name[VIRTIO_LOOPBACK_NAME_SIZE])
{
	memset(name, 0, VIRTIO_LOOPBACK_NAME_SIZE);
	snprintf(name, VIRTIO_LOOPBACK_NAME_SIZE, "fuzz%u", number);
}

void fuzz_name(struct fuzzer *fuzzer, char name[VIRTIO_LOOPBACK_NAME_SIZE])
{
	bool any = fuzz_one_in(fuzzer, 100);

	name_of(fuzz_below(fuzzer, any ? NAMES : NAMES - CARDS), name);
	if (fuzz_one_in(fuzzer, 40))
		fuzz_fill(fuzzer, name, VIRTIO_LOOPBACK_NAME_SIZE);
}
