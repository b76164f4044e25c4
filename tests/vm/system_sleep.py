# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The guest goes to sleep and wakes up again at once, all its devices suspended and resumed."""

import contextlib
import os
import pathlib
import subprocess

import kernel_log

POWER = pathlib.Path("/sys/power")
DELAY = pathlib.Path("/sys/module/suspend/parameters/pm_test_delay")
KEEP_AWAKE = os.environ.get("VIRTIO_LOOPBACK_KEEP_AWAKE", "/nonexistent")
WOKEN = "PM: suspend exit"


@contextlib.contextmanager
def awake_root():
    """The guest's root, a virtio device of the machine, stays awake: it would not come back."""
    subprocess.run(["insmod", KEEP_AWAKE], check=True)
    yield
    subprocess.run(["rmmod", "keep_awake"], check=True)


def sleep():
    """Raises OSError where a device or a process could not be put to sleep."""
    log = kernel_log.KernelLog()
    # Nothing but the last step is left out: the processors stay on, since nobody would wake them.
    (POWER / "pm_test").write_text("devices")
    DELAY.write_text("0")
    try:
        (POWER / "state").write_text("freeze")
    finally:
        (POWER / "pm_test").write_text("none")
    kernel_log.say("system_sleep: over")
    lines = [text for _, text in log.new_lines()]
    log.close()
    assert WOKEN in lines, lines
