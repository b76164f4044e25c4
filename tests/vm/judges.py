# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Programs by others that judge a sound card, and what they say."""

import dataclasses
import os
import pathlib
import re
import shutil

import guest_memory
import programs
from programs import Program

# The kernel's own tests of sound cards, in the guest's memory.
SELFTESTS = programs.FOLDER / "selftests"
# What they shall check on a card named music, beside their own cases.
MUSIC = pathlib.Path(__file__).with_name("pcm-test-music.conf")


def kernel_source():
    """The parts of a kernel's source that tests/harness/kernels has unpacked."""
    folder = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_KERNEL_SOURCE", "/nonexistent"))
    assert (folder / "selftests").exists(), "no tests of the kernel: tests/harness/kernels selftests 6.12"
    return folder


def kernel_selftests():
    """The folder in which the kernel's pcm-test and mixer-test run."""
    if not SELFTESTS.exists():
        shutil.copytree(kernel_source() / "selftests", SELFTESTS)
        shutil.copy(MUSIC, SELFTESTS / "conf.d")
    return SELFTESTS


class Judge(Program):
    """A program that judges every card it finds, and finds only one."""

    def __init__(self, card, folder, *command):
        devices = guest_memory.ROOT / "dev/snd"
        script = f"""
            mount -t tmpfs none {devices} && cd /dev/snd && cp -a timer {" ".join(card.nodes())} {devices}/ || exit 1
            exec unshare --root={guest_memory.ROOT} --wd="$0" "$@"
        """
        super().__init__("unshare", "--mount", "sh", "-c", script, folder, *command)


@dataclasses.dataclass(frozen=True)
class Case:
    """One case of a run in the Test Anything Protocol."""

    result: str  # ok, not ok, skip
    remarks: tuple[str, ...]  # the comment lines behind it

    def __str__(self):
        return "; ".join([self.result, *self.remarks])


def tap_cases(text):
    """The cases of such a run, by name. Its plan has to be kept."""
    plan = re.search(r"^1\.\.(\d+)$", text, re.MULTILINE)
    assert plan, f"no plan:\n{text}"
    cases, name = {}, None
    for line in text.splitlines():
        if match := re.match(r"(ok|not ok) \d+ (# SKIP )?(\S+)$", line):
            name = match[3]
            assert name not in cases, f"{name} twice:\n{text}"
            cases[name] = Case("skip" if match[2] else match[1], ())
        elif line.startswith("# ") and name:
            cases[name] = dataclasses.replace(cases[name], remarks=(*cases[name].remarks, line[2:]))
    assert len(cases) == int(plan[1]), f"{len(cases)} cases of {plan[1]}:\n{text}"
    return cases


@dataclasses.dataclass(frozen=True)
class Forbidden:
    """Cases that cannot pass, and the line of the stock driver that forbids it."""

    cases: str  # a regular expression for their names
    result: str
    file: str  # in sound/virtio
    line: str

    def stands(self):
        """Whether the driver still says so."""
        source = (kernel_source() / "sound/virtio" / self.file).read_text()
        return self.line in (line.strip() for line in source.splitlines())


def faults(cases, forbidden):
    """Everything that is not as it has to be: a line for each case."""
    found = []
    for rule in forbidden:
        if not rule.stands():
            found.append(f"{rule.file} does not say any more: {rule.line}")
        if not any(re.fullmatch(rule.cases, name) for name in cases):
            found.append(f"no case {rule.cases}")
    for name, case in cases.items():
        rule = next((rule for rule in forbidden if re.fullmatch(rule.cases, name)), None)
        if case.result != (rule.result if rule else "ok"):
            found.append(f"{name}: {case}")
    return found
