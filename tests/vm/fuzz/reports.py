# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The reports in the log of a kernel that watches itself, and which of them are of our driver."""

import itertools
import pathlib
import re
import time

DEBUG = pathlib.Path("/sys/kernel/debug")
# A report starts with one of these.
REPORT = re.compile(
    r"\bBUG\b|\bWARNING:|Oops|\blockdep\b|INFO: (task|possible|trying|rcu)|soft lockup|hard LOCKUP|"
    r"general protection|refcount_t|kernel BUG|unreferenced object|ODEBUG: Out of memory"
)
LOCKS = pathlib.Path("/proc/lockdep_stats")
RULER = re.compile(r"={20,}")
LEAK = "unreferenced object"
MODULE = "[virtio_loopback]"
FRAME = re.compile(r" \S+\+0x[0-9a-f]+/0x[0-9a-f]+\b.*")
INTERRUPT = re.compile(r" asm_(sysvec|common_interrupt|exc)")
# virtio_snd's messages that have a device stop a stream and let go of it, where nobody answers while its card is
# removed: the driver has given up all messages before those.
LEAK_OF_OTHERS = ("virtsnd_pcm_ctl_msg_alloc+", "snd_pcm_dev_disconnect+")
# A word of a task's rights, into which whoever opens a file writes the same; a task's own flags, which it changes
# while it removes a device, and at which the tick of its CPU looks; an eventfd's count, which poll() reads.
RACES_OF_OTHERS = tuple(
    f"data-race in {functions}"
    for functions in ("init_file / init_file", "device_del / kthread_data", "eventfd_poll / eventfd_signal_mask")
)
# An access is ours also where a function of the kernel's makes it for us: a list's, a tree's, an allocator's.
DEPTH = 4


def reports(log):
    """The reports in a kernel log: a line that starts one, and what it goes on with."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if REPORT.search(line):
            text = lines[number : number + 60]
            end = next((i for i, later in enumerate(text) if i and (RULER.search(later) or LEAK in later)), len(text))
            yield "\n".join(text[:end])


def lockdep_watches(stats=LOCKS):
    """Whether lockdep still does, where the kernel has it: it is silent after its first report."""
    return not stats.exists() or re.search(r"debug_locks:\s+1\b", stats.read_text()) is not None


def leaks():
    """What kmemleak finds, where the kernel has it; asked twice, as it is sure of nothing that is new."""
    file = DEBUG / "kmemleak"
    if not file.exists():
        return ""
    for _ in range(2):
        time.sleep(6)
        file.write_text("scan")
    return file.read_text()


def ours(report):
    """Whether a report may be about our driver: any but a leak or a race (KCSAN) that is known to be another's, or
    a race between others' accesses, which the driver has called from afar, or which an interrupt has made meanwhile."""
    first, *lines = report.splitlines()
    if LEAK in first:
        return not all(function in report for function in LEAK_OF_OTHERS)
    if "KCSAN" not in first:
        return True
    if first.endswith(RACES_OF_OTHERS):
        return False
    return any(MODULE in frame for access in accesses(lines) for frame in access[:DEPTH])


def accesses(lines):
    """The frames of each access, innermost first, up to the interrupt that it was made in."""
    found = map(FRAME.search, lines)
    for is_stack, frames in itertools.groupby(found, bool):
        if is_stack:
            yield list(itertools.takewhile(lambda frame: not INTERRUPT.match(frame), (one[0] for one in frames)))
