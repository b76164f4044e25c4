# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The C programs of tests/bench/programs: built on the host, run in the guest's memory.

They print JSON: one value, or one object a line.
"""

import json
import pathlib
import subprocess

SOURCES = pathlib.Path(__file__).parent / "programs"
PLACE = pathlib.Path("/run/virtio-loopback-tests/measure")  # in the guest


def build(folder):
    """Compiles them all into `folder`."""
    shared = SOURCES / "pcm.c"
    for source in sorted(SOURCES.glob("*.c")):
        if source == shared:
            continue
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", source, shared, "-lasound", "-o", folder / source.stem]
        subprocess.run([str(word) for word in command], check=True)


def install(folder, more=()):
    """Puts them, and the programs `more`, where they run from the guest's memory."""
    import shutil

    import guest_memory

    PLACE.mkdir(parents=True, exist_ok=True)
    names = [source.stem for source in SOURCES.glob("*.c") if source.stem != "pcm"]
    for program in [*(pathlib.Path(folder, name) for name in names), *more]:
        shutil.copy2(program, PLACE / program.name)
        guest_memory.add([str(PLACE / program.name)])


def path_of(name):
    return str(PLACE / name)


def measure(name, *arguments, timeout=120):
    """Runs one to its end; returns what it measured, as a list of its lines."""
    import programs

    result = programs.run(path_of(name), *arguments, timeout=timeout)
    return parse(result.stdout)


def parse(text):
    return [json.loads(line) for line in text.splitlines() if line[:1] in "{[0123456789"]
