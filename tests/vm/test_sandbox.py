# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that plays on a real card has given up what it does not need. The other tests show
that it misses nothing."""

import os
import pathlib

import alsa_tools
import programs
import pytest
import sounds
from programs import wait_until
from sounds import Layout

UNIT_TESTS = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_BINARIES", "/nonexistent"), "examples", "unit-tests")


def of_threads(pid, name):
    """A line of the status of each thread."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    return {line.split()[1] for line in lines if line.startswith(f"{name}:")}


@pytest.mark.core
def test_every_part_of_the_sandbox_is_on(make_card, real):
    card = make_card("music", "-v", "--host", "alsa", "--playback-device", real.device)
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 4800), period=480, buffer=1920)
    pid = card.device.pid
    assert of_threads(pid, "NoNewPrivs") == {"1"}
    assert of_threads(pid, "Seccomp") == {"2"}
    assert of_threads(pid, "CapPrm") == {"0" * 16}
    assert of_threads(pid, "CapBnd") == {"0" * 16}
    wait_until(lambda: "sandbox: on: no-new-privileges" in card.device.output(), "the line on the sandbox")
    assert "; off:" not in card.device.output()


def test_no_attack_of_the_unit_tests_leaves_it():
    """They are skipped where a kernel lacks a part of the sandbox, as that of the machine that builds may. This one
    lacks none."""
    assert UNIT_TESTS.exists(), f"no unit tests: tests/harness/build-unit-tests {UNIT_TESTS}"
    result = programs.run(UNIT_TESTS, "sandbox::tests::", timeout=170)
    assert "what_only_an_attacker_does_ends_the_process ... ok" in result.stdout, result.stdout
    assert "; off: " not in result.stderr, result.stderr
