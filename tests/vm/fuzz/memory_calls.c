// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* Calls of the memory file, and accesses to what is mapped of it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define PAGE 4096

static void map(struct fuzzer *fuzzer)
{
	int fd = fuzz_one_in(fuzzer, 20) ? object_get_any(fuzzer) : object_get(fuzzer, MEMORY);
	int protection = fuzz_one_in(fuzzer, 6) ? (int)fuzz_below(fuzzer, 8) : PROT_READ | PROT_WRITE;
	int flags = fuzz_one_in(fuzzer, 12) ? MAP_PRIVATE : MAP_SHARED;
	size_t length = PAGE * (1 + fuzz_below(fuzzer, 512));
	off_t offset = fuzz_one_in(fuzzer, 3) ? PAGE * (off_t)fuzz_below(fuzzer, 600) : 0;
	void *start;

	if (fuzz_one_in(fuzzer, 2) && fd >= 0)
		length = lseek(fd, 0, SEEK_END);
	if (fuzz_one_in(fuzzer, 20))
		offset = fuzz_number(fuzzer) & ~(off_t)(PAGE - 1);
	if (fuzz_one_in(fuzzer, 8))
		flags |= MAP_POPULATE;
	start = mmap(NULL, length, protection, flags, fd, offset);
	count(CALLS);
	if (start == MAP_FAILED)
		return;
	count(MAPPED);
	mapping_keep(fuzzer, (struct mapping){ start, length });
}

static void change_mapping(struct fuzzer *fuzzer)
{
	static const int advice[] = { MADV_DONTNEED, MADV_WILLNEED, MADV_REMOVE, MADV_DOFORK, MADV_HUGEPAGE, 21, 8, 9 };
	struct mapping mapping = mapping_get(fuzzer);
	uint8_t *start = mapping.start + PAGE * fuzz_below(fuzzer, 64);
	size_t length = PAGE * (1 + fuzz_below(fuzzer, 64));
	void *moved;

	count(CALLS);
	if (!mapping.start)
		return;
	switch (fuzz_below(fuzzer, 6)) {
	case 0:
		mprotect(start, length, fuzz_below(fuzzer, 8));
		break;
	case 1:
		madvise(start, length, advice[fuzz_below(fuzzer, sizeof(advice) / sizeof(*advice))]);
		break;
	case 2:
		moved = mremap(mapping.start, mapping.length, mapping.length + PAGE * fuzz_below(fuzzer, 2), MREMAP_MAYMOVE);
		if (moved != MAP_FAILED && moved != mapping.start)
			mapping_keep(fuzzer, (struct mapping){ moved, mapping.length });
		break;
	case 3:
		mlock(start, length);
		break;
	case 4:
		msync(start, length, MS_SYNC);
		break;
	default:
		mapping_keep(fuzzer, (struct mapping){ 0 });
	}
}

static void use_file(struct fuzzer *fuzzer)
{
	uint8_t buffer[64];
	int fd = object_get(fuzzer, MEMORY);
	struct stat status;

	count(CALLS);
	switch (fuzz_below(fuzzer, 9)) {
	case 0:
		lseek(fd, fuzz_number(fuzzer), fuzz_below(fuzzer, 5));
		break;
	case 1:
		(void)!pread(fd, buffer, sizeof(buffer), fuzz_number(fuzzer));
		break;
	case 2:
		(void)!pwrite(fd, buffer, sizeof(buffer), fuzz_number(fuzzer));
		break;
	case 3:
		(void)!ftruncate(fd, fuzz_number(fuzzer));
		break;
	case 4:
		fallocate(fd, fuzz_below(fuzzer, 4), fuzz_number(fuzzer), fuzz_number(fuzzer));
		break;
	case 5:
		fstat(fd, &status);
		break;
	case 6:
		fsync(fd);
		break;
	case 7:
		fchmod(fd, fuzz_below(fuzzer, 01000));
		break;
	default:
		object_keep(fuzzer, MEMORY, dup(fd));
	}
}

/* The kernel's own accesses to what is mapped: pages are pinned, and stay in a pipe for a while. */
static void use_through_kernel(struct fuzzer *fuzzer)
{
	struct mapping mapping = mapping_get(fuzzer);
	struct iovec piece = { mapping.start + fuzz_below(fuzzer, mapping.length | 1), 1 + fuzz_below(fuzzer, 2 * PAGE) };
	uint8_t buffer[PAGE];
	int ends[2];

	count(CALLS);
	if (!mapping.start || pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		return;
	if (vmsplice(ends[1], &piece, 1, SPLICE_F_NONBLOCK) > 0 && fuzz_one_in(fuzzer, 2))
		(void)!read(ends[0], buffer, sizeof(buffer));
	if (fuzz_one_in(fuzzer, 2))
		(void)!write(ends[1], buffer, 64);
	(void)!readv(ends[0], &piece, 1); /* into the mapping */
	if (fuzz_one_in(fuzzer, 4)) {
		object_keep(fuzzer, OTHER, ends[0]);
		object_keep(fuzzer, OTHER, ends[1]);
	} else {
		close(ends[0]);
		close(ends[1]);
	}
}

static void fork_child(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		objects_close_all();
		_exit(0);
	}
	count(CALLS);
	if (child > 0)
		waitpid(child, &status, 0);
}

void memory_call(struct fuzzer *fuzzer)
{
	switch (fuzz_below(fuzzer, 10)) {
	case 0:
	case 1:
	case 2:
		map(fuzzer);
		break;
	case 3:
	case 4:
	case 5:
		change_mapping(fuzzer);
		break;
	case 6:
	case 7:
		use_file(fuzzer);
		break;
	case 8:
		use_through_kernel(fuzzer);
		break;
	default:
		if (fuzz_one_in(fuzzer, 10))
			fork_child();
	}
}

struct access {
	struct fuzzer *fuzzer;
	struct mapping mapping;
};

static void touch(void *argument)
{
	struct access *access = argument;

	for (int i = 0; i < 8; i++) {
		volatile uint8_t *byte = access->mapping.start + fuzz_below(access->fuzzer, access->mapping.length);

		if (fuzz_one_in(access->fuzzer, 2))
			*byte = fuzz_random(access->fuzzer);
		else
			(void)*byte;
	}
}

void memory_touch(struct fuzzer *fuzzer)
{
	struct access access = { fuzzer, mapping_get(fuzzer) };

	if (access.mapping.start && access.mapping.length)
		guarded(touch, &access);
}
