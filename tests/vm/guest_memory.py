# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Brings files of the guest's root, which lie on the host's disk, into the guest's memory.

The root is shared by 9p and not cached: each start of a program reads it again, and a page
that is missing while sound plays stops the player for as long as the host likes. So what
takes part in playing is copied into memory and mounted over itself.
"""

import os
import pathlib
import re
import shutil
import subprocess

FOLDER = pathlib.Path("/run/virtio-loopback-tests/root")
PROGRAMS = ["/usr/bin/aplay", "/usr/bin/arecord", "/usr/bin/sox"]
FOLDERS = ["/usr/share/alsa", "/usr/share/sounds/alsa", "/etc/alsa"]


def libraries(program):
    """The files that the dynamic linker loads for a program, itself included."""
    output = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", output)


def bring_in(programs):
    files = set()
    for program in programs:
        if os.path.exists(program):
            files |= {os.path.realpath(path) for path in [program, *libraries(program)]}
    for path in [*sorted(files), *(folder for folder in FOLDERS if os.path.isdir(folder))]:
        copy = FOLDER / path.lstrip("/")
        if copy.exists() or path.startswith("/run/"):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(path):
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy)
        subprocess.run(["mount", "--bind", str(copy), path], check=True)
