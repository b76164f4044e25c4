# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a device process can reach: its open files, taken out of it, read and written at every offset."""

import contextlib
import ctypes
import mmap
import os
import re

LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438
PAGE = mmap.PAGESIZE
STANDARD_STREAMS = (0, 1, 2)
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
# What a device process may have open: nothing that leads to memory, or to rights, of anybody else.
ITS_OWN = re.compile(
    r"anon_inode:(\[(eventfd|eventpoll|timerfd|signalfd)\]|inotify)|(socket|pipe):\[\d+\]|"
    r"/run/.*/music\.inflight|"
    r"/virtio-loopback \(deleted\)|"  # the memory of its card
    r"(/run/.*)?/dev/snd/\w+"  # the real card
)


def take_file(pid, number):
    """A duplicate of another process's open file."""
    process = os.pidfd_open(pid)
    taken = LIBC.syscall(PIDFD_GETFD, process, number, 0)
    os.close(process)
    if taken < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return taken


def memory_of(program, size):
    """The memory file among the files of a device process, mapped: the one of the right size."""
    for number in map(int, os.listdir(f"/proc/{program.pid}/fd")):
        if os.stat(f"/proc/{program.pid}/fd/{number}").st_size == size:
            file = take_file(program.pid, number)
            memory = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
            os.close(file)
            return memory
    raise AssertionError(f"none of the files of {program} has {size} bytes")


def pages_with_content(memory):
    empty = bytes(PAGE)
    return [page for at in range(0, len(memory), PAGE) if (page := memory[at : at + PAGE]) != empty]


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def pin(pipe, memory, at):
    """Puts a page of mapped memory itself into a pipe, not its content."""
    piece = ctypes.c_char.from_buffer(memory, at)
    if LIBC.vmsplice(pipe, ctypes.byref(Iovec(ctypes.addressof(piece), PAGE)), ctypes.c_ulong(1), 0) != PAGE:
        raise OSError(ctypes.get_errno(), "vmsplice")


class Reach:
    """All that the files of a device process lead to; they stay open, whatever becomes of it, until close()."""

    def __init__(self, pid):
        # Each with what /proc calls it, which several may share.
        self.mapped = []
        self.others = []
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            if number in STANDARD_STREAMS:
                continue
            name = os.readlink(f"/proc/{pid}/fd/{number}")
            file = take_file(pid, number)
            try:
                self.mapped.append((name, mmap.mmap(file, os.fstat(file).st_size, mmap.MAP_SHARED, READ_WRITE)))
                os.close(file)
            except (OSError, ValueError):  # ValueError: of no size
                self.others.append((name, file))

    def strange(self):
        """Names of files that a device process has no use for."""
        return [name for name, _ in self.mapped + self.others if not ITS_OWN.fullmatch(name)]

    def read(self):
        """The pages that hold anything."""
        return [page for _, memory in self.mapped for page in pages_with_content(memory)]

    def write(self, page):
        """Writes a page's bytes over each page. Returns how many pages took it, and how many refused."""
        reader, writer = os.pipe()
        taken = refused = 0
        for _, memory in self.mapped:
            with memoryview(memory) as view:
                for at in range(0, len(memory), PAGE):
                    os.write(writer, page)
                    try:
                        with view[at : at + PAGE] as piece:  # a store would be SIGBUS where this is EFAULT
                            os.readv(reader, [piece])
                        taken += 1
                    except OSError:
                        os.read(reader, PAGE)
                        refused += 1
        os.close(reader)
        os.close(writer)
        return taken, refused

    def by_offset(self, page):
        """What answers pread() or pwrite() among the files that cannot be mapped, but for a real card: what is
        written there is heard."""
        found = []
        for name, file in self.others:
            if name.startswith("/dev/snd/pcm"):
                continue
            for offset in (0, PAGE, 1 << 32, (1 << 63) - 2 * PAGE):
                with contextlib.suppress(OSError):
                    found.append((name, "pread", os.pread(file, PAGE, offset)))
                with contextlib.suppress(OSError):
                    found.append((name, "pwrite", os.pwrite(file, page, offset)))
        return found

    def close(self):
        for _, memory in self.mapped:
            memory.close()
        for _, file in self.others:
            os.close(file)
