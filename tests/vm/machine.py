# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Makes a fresh guest ready: programs in memory, udev and modprobe with our rules, real cards, our module."""

import contextlib
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


def load_drivers(*names):
    """Modules of the kernel's that are not there yet. modprobe reads the host's files, which may take long."""
    missing = [name for name in names if not pathlib.Path("/sys/module", name).exists()]
    if missing:
        subprocess.run(["modprobe", "-a", *missing], check=True)


def watches_itself():
    """Whether it is a kernel of tests/harness/build-kernel, with several times the work for everything, and
    which does not give freed memory away at once."""
    return platform.release().endswith(("-debug", "-kcsan"))


def load_module():
    if not pathlib.Path("/sys/module", MODULE).exists():
        programs.run("insmod", os.environ["VIRTIO_LOOPBACK_MODULE"])


def unload_module():
    """Nobody may have anything of it any more: it goes, after a moment that the kernel may need."""
    loaded = pathlib.Path("/sys/module", MODULE)

    def gone():
        return not loaded.exists() or subprocess.run(["rmmod", MODULE], capture_output=True).returncode == 0

    try:
        programs.wait_until(gone, "the driver to be let go", 20)
    except AssertionError as error:
        references = (loaded / "refcnt").read_text().strip()
        raise AssertionError(f"{error}: {references} references; {who_has_it()}") from None


def who_has_it():
    """Files of the driver that are open or mapped, with the processes that have them."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            files = [*programs.links(process.name).values(), *(process / "maps").read_text().splitlines()]
            command = (process / "cmdline").read_text().replace("\0", " ")
            found += [f"{command}: {file}" for file in files if "/virtio-loopback" in file]
    return found


def start_udev():
    """udevd with the project's rules. /etc may be read-only in the guest, /run is not."""
    folder = pathlib.Path("/run/udev/rules.d")
    folder.mkdir(parents=True, exist_ok=True)
    for rules in RULES:
        shutil.copy(rules, folder)
    # One that runs already has been started from the host's disk.
    subprocess.run(["udevadm", "control", "--exit"], capture_output=True)
    programs.run("/lib/systemd/systemd-udevd", "--daemon")
