# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the kernel says while a test runs, and which of it is a complaint."""

import os
import re

from fuzz.reports import RULER, ours

WARNING = 4  # KERN_WARNING; smaller numbers are worse

# Words of a complaint at any priority: lockdep and the like also print lines of lower ones.
COMPLAINT = re.compile(
    r"\b(BUG|WARNING|Oops|lockdep|possible recursive locking|inconsistent lock state|hung task|"
    r"soft lockup|rcu_.*stall|use-after-free|refused|refcount_t|scheduling while atomic|"
    r"unable to handle|general protection|Call Trace|kmemleak)\b"
)

# What is said of a message of virtio_snd's that its device does not answer.
UNANSWERED = "control message .* timeout"

# How the report of a process that is killed for its memory begins.
OUT_OF_MEMORY = re.compile("sysrq: Manual OOM execution|invoked oom-killer")

# Lines that are not about what is tested here. Each with its reason.
NOT_OURS = [
    # Any module from outside Debian's kernel package.
    re.compile(r"loading out-of-tree module taints kernel"),
    re.compile(r"module verification failed: signature and/or required key missing"),
    # The emulated machine's clocks, when the host is too busy to emulate them in time.
    re.compile(r"hpet\d*: [Ll]ost \d+ RTC interrupts"),
    re.compile(r"clocksource: .*"),
    re.compile(r"hrtimer: interrupt took \d+ ns"),
    re.compile(r"workqueue: \S+ hogged CPU for >\d+us"),
    # The emulated machine's disk controller, asked by udev, and put to sleep.
    re.compile(r"ata\d+\.\d+: (LPM support broken|Check power mode failed)"),
    # virtio_snd posts neighbouring 8-byte event buffers; DMA debugging dislikes that.
    re.compile(r"cacheline tracking EEXIST"),
]


class KernelLog:
    """A reader of /dev/kmsg that starts at its end, or (os.SEEK_SET) with the boot."""

    def __init__(self, path="/dev/kmsg", whence=os.SEEK_END):
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._file, 0, whence)

    def close(self):
        os.close(self._file)

    def new_lines(self):
        """(priority, text) of each line since the last call."""
        lines = []
        while True:
            try:
                record = os.read(self._file, 8192)
            except BlockingIOError:
                return lines
            except BrokenPipeError:
                lines.append((WARNING, "lines of the kernel log were overwritten before they were read"))
                continue
            lines.append(parse(record))

    def complaints(self):
        """The new lines that a test must not cause."""
        # A line without its end is not shown before the next one starts.
        say("virtio-loopback tests: end of a test")
        lines = without_kills_on_request(without_races_of_others(self.new_lines()))
        return [text for priority, text in lines if is_complaint(priority, text)]


def say(text, priority=6):
    with open("/dev/kmsg", "w") as log:
        log.write(f"<{priority}>{text}\n")


def parse(record):
    """One record of /dev/kmsg: "priority,sequence,time,flags;text" and continuation lines."""
    head, _, rest = record.decode(errors="replace").partition(";")
    return int(head.split(",")[0]) & 7, rest.split("\n")[0]


def without_races_of_others(lines):
    """The (priority, text) lines without reports of data races (KCSAN) that the driver has no part in."""
    kept, report = [], []
    for line in lines:
        text = line[1]
        if not report and "BUG: KCSAN" not in text:
            kept.append(line)
            continue
        report.append(line)
        if RULER.search(text):
            if ours("\n".join(text for _, text in report)):
                kept += report
            elif kept and RULER.search(kept[-1][1]):
                kept.pop()  # the one above it
            report = []
    return kept + report


def without_kills_on_request(lines):
    """The lines without reports of a process that the kernel was told to kill for its memory: by sysrq f, or by the
    limit of a control group."""
    kept, report = [], []
    for line in lines:
        if not report and not OUT_OF_MEMORY.search(line[1]):
            kept.append(line)
            continue
        report.append(line)
        if "ut of memory: Killed process" in line[1]:
            if "sysrq" not in report[0][1] and "Memory cgroup" not in line[1]:
                kept += report
            report = []
    return kept + report


def is_complaint(priority, text):
    if any(pattern.search(text) for pattern in NOT_OURS):
        return False
    return priority <= WARNING or COMPLAINT.search(text) is not None
