# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Memory of processes and of the kernel, every page counted once; in the guest."""

import pathlib
import re

PROC = pathlib.Path("/proc")
# Mappings of memory that is the kernel's: a card's queues and buffers.
KERNELS_OWN = re.compile(r"/dev/snd/|^/virtio-loopback |^anon_inode:|^\[v(var|dso|syscall)")
HEADER = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$")


def process_bytes(pids):
    """What processes use: a page that several share counts in parts that add up to one."""
    return sum(sum(mappings(pid).values()) for pid in pids)


def mappings(pid):
    """Pss of a process in bytes by what is mapped, without the kernel's own memory."""
    found = {}
    name = ""
    for line in (PROC / str(pid) / "smaps").read_text().splitlines():
        if header := HEADER.match(line):
            name = header[1] or "anonymous"
        elif line.startswith("Pss:") and not KERNELS_OWN.search(name):
            found[name] = found.get(name, 0) + int(line.split()[1]) * 1024
    return found


def kernel_bytes():
    """What the kernel uses itself: all memory but what is free, cache, or a process's own."""
    (PROC / "sys/vm/drop_caches").write_text("3")
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", (PROC / "meminfo").read_text(), re.MULTILINE))
    others = ["MemFree", "Buffers", "Cached", "AnonPages", "SwapCached"]
    return (int(fields["MemTotal"]) - sum(int(fields[name]) for name in others)) * 1024
