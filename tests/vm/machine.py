# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Makes a fresh guest ready: programs in memory, udev and modprobe with our rules, real cards, our module."""

import os
import pathlib
import platform
import shutil
import subprocess

import guest_memory
import programs
import real_card
from foreign_card import ForeignCard

MODULE = "virtio_loopback"
DRIVER = pathlib.Path(__file__).parents[2] / "kernel-driver"
RULES = sorted(DRIVER.glob("*-virtio-loopback.rules"))
OPTIONS = DRIVER / "virtio-loopback.modprobe.conf"
HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare():
    if HUGE_PAGES.exists():
        # One that comes meanwhile, such as the kernel's own of zeros, is no growth of a card's.
        HUGE_PAGES.write_text("never")
    guest_memory.make()
    programs.install(os.environ.get("VIRTIO_LOOPBACK_BINARIES", "/nonexistent"))
    start_udev()
    folder = pathlib.Path("/run/modprobe.d")
    folder.mkdir(exist_ok=True)
    shutil.copy(OPTIONS, folder / "virtio-loopback.conf")
    ForeignCard.put_away()
    # It may have been loaded for that card, before its options were there.
    programs.run("modprobe", "-r", "virtio_snd", check=False)
    programs.run("modprobe", "-a", "virtio", "virtio_ring", "virtio_snd")
    real_card.load()
    load_module()
    programs.run("udevadm", "settle")


def watches_itself():
    """Whether it is a kernel of tests/harness/build-kernel, with several times the work for everything, and
    which does not give freed memory away at once."""
    return platform.release().endswith(("-debug", "-kcsan"))


def load_module():
    if not pathlib.Path("/sys/module", MODULE).exists():
        programs.run("insmod", os.environ["VIRTIO_LOOPBACK_MODULE"])


def start_udev():
    """udevd with the project's rules. /etc may be read-only in the guest, /run is not."""
    folder = pathlib.Path("/run/udev/rules.d")
    folder.mkdir(parents=True, exist_ok=True)
    for rules in RULES:
        shutil.copy(rules, folder)
    # One that runs already has been started from the host's disk.
    subprocess.run(["udevadm", "control", "--exit"], capture_output=True)
    programs.run("/lib/systemd/systemd-udevd", "--daemon")
