# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A small root in the guest's memory, in which the programs that play run.

The guest's own root is the host's, shared by 9p and not cached: each look at a file is a
request to the host, and one that the busy host answers late looks very late by the guest's
clock. Nothing that plays may wait for it.
"""

import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path("/run/virtio-loopback-tests/root")
# These run in the small root ...
PROGRAMS = ["/usr/bin/aplay", "/usr/bin/arecord", "/usr/bin/sox", "/usr/bin/alsabat", "/usr/bin/speaker-test",
            "/usr/bin/chrt", "/usr/bin/taskset", "/usr/bin/stress-ng"]
# ... and these in the guest's, but from memory.
SYSTEM_PROGRAMS = ["/usr/bin/udevadm", "/usr/bin/kmod"]
# Without ALSA's hundreds of files about cards that are not here.
FOLDERS = ["/usr/share/alsa/cards", "/usr/share/alsa/pcm", "/usr/share/alsa/alsa.conf.d", "/etc/alsa",
           "/usr/share/sounds/alsa"]
FILES = ["/usr/share/alsa/alsa.conf", "/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"]
SHARED = ["dev", "proc", "sys", "run", "tmp"]
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def make():
    """Makes the root, with everything but the programs under test."""
    ROOT.mkdir(parents=True)
    for link, target in LINKS.items():
        (ROOT / target).mkdir(parents=True, exist_ok=True)
        (ROOT / link).symlink_to(target)
    for folder in SHARED:
        (ROOT / folder).mkdir()
        subprocess.run(["mount", "--rbind", f"/{folder}", str(ROOT / folder)], check=True)
    for path in filter(os.path.isdir, FOLDERS):
        shutil.copytree(path, ROOT / path[1:], symlinks=True)
    for path in FILES:
        copy(path)
    add(PROGRAMS)
    for path in add(SYSTEM_PROGRAMS):
        subprocess.run(["mount", "--bind", str(ROOT / path[1:]), path], check=True)


def add(programs):
    """Copies programs and the libraries that they are linked with; returns the paths of all."""
    paths = set()
    for program in programs:
        output = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        paths |= {program, *re.findall(r"(/\S+) \(0x", output)}
    paths = {os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in paths}
    for path in sorted(paths):
        copy(path)
    return sorted(paths)


def copy(path):
    target = ROOT / path.lstrip("/")
    if not target.exists() and os.path.exists(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def enter():
    """Goes into the root; for the time between fork and exec."""
    os.chroot(ROOT)
    os.chdir("/")


def has(program):
    """Whether a program, by its path or name, is in the root."""
    return any((ROOT / folder / program.lstrip("/")).exists() for folder in ("", "usr/bin"))
