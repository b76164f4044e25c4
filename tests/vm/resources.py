# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a card, its programs and the kernel have taken."""

import mmap
import pathlib
import re

import linux
from machine import watches_itself
from programs import wait_until

# Memory that is not the kernel's own, or that is counted by itself below.
ACCOUNTED = ["MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab", "KernelStack", "PageTables",
             "VmallocUsed", "Percpu"]
# On 7.2 each program that is started takes some 50 KiB of these, also aplay straight on snd-aloop.
COUNTS_PAGES = linux.VERSION < (7, 0)
# KiB that a kernel may keep back of what is freed, so as to see who uses it still. What is not freed at all,
# kmemleak reports there.
FREED = 16 << 10 if watches_itself() else 0
KINDS = ["SUnreclaim", "VmallocUsed", "Percpu", "PageTables", "KernelStack"]


def kernel_kib():
    """Kernel memory by kind, in KiB. Pages that were taken one by one are those no other kind has."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    # Free pages that a CPU keeps at hand are not in MemFree.
    at_hand = sum(map(int, re.findall(r"^\s+count: (\d+)", pathlib.Path("/proc/zoneinfo").read_text(), re.MULTILINE)))
    pages = sizes["MemTotal"] - sum(sizes[name] for name in ACCOUNTED) - at_hand * (mmap.PAGESIZE // 1024)
    kinds = {name: sizes[name] for name in KINDS}
    return {**kinds, "pages": pages} if COUNTS_PAGES else kinds


def measure(card):
    wait_until(lambda: card.counter("zero_copy_pages") == 0, "the pages of the last sound to be let go")
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    programs = {
        f"{part}, {kind}": value
        for part, program in (("device", card.device), ("adapter", card.adapter))
        for kind, value in (
            ("files", program.files()),
            ("KiB", program.resident_kib()),
            ("mappings", len(pathlib.Path(f"/proc/{program.pid}/maps").read_text().splitlines())),
        )
    }
    return {
        **{f"kernel {kind}, KiB": value for kind, value in kernel_kib().items()},
        **programs,
        "bounce slots, bytes": card.counter("bounce_used"),
    }


def allowed(name):
    """How much a figure may grow over 200 times: noise, but no page or file for each time.

    A page for each time would be 800 KiB.
    """
    return 600 + FREED if "kernel" in name else 200 if "KiB" in name else 0
