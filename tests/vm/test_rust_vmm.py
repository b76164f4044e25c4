# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that is not ours: rust-vmm's source of random numbers (vhost-device-rng), made for virtual
machines, as its authors published it.
"""

import os
import pathlib

import guest_memory
import programs
import pytest
from card import Card

PROGRAM = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_TOOLS", "/nonexistent"), "bin", "vhost-device-rng")
RANDOM = pathlib.Path("/sys/class/misc/hw_random")


def sources():
    """The virtio devices among the kernel's sources of random numbers."""
    return [name for name in (RANDOM / "rng_available").read_text().split() if name.startswith("virtio")]


class Dice(Card):
    """vhost-device-rng, and the adapter that makes a source of random numbers of it."""

    options = ("--device", "rng")

    def __init__(self, name):
        super().__init__(name)
        self.socket = programs.FOLDER / f"{name}.socket0"  # it adds the number

    def device_command(self):
        assert PROGRAM.exists(), "no device of rust-vmm: tests/harness/get-tool vhost-device-rng 0.1.0"
        return [PROGRAM, "--socket-path", str(self.socket)[:-1]]

    def ready(self):
        return self.state() == "live" and self.attribute("attached") == "1" and sources()


class StartedDice(Dice):
    """The same, started by its adapter."""

    def start(self):
        self.start_adapter()
        return self

    def launch_adapter(self):
        guest_memory.add([str(PROGRAM)])  # where its adapter is
        super().launch_adapter(*self.device_command())


@pytest.mark.parametrize("kind", [Dice, StartedDice])
def test_its_numbers_are_read(make_card, kind):
    """It does not acknowledge (REPLY_ACK), and it forgets a kick that comes before its queue is enabled."""
    dice = make_card("dice", kind=kind)
    numbers = programs.FOLDER / "numbers"
    for _ in range(5):
        (RANDOM / "rng_current").write_text(sources()[0])
        programs.run("dd", "if=/dev/hwrng", f"of={numbers}", "bs=64", "count=100", "iflag=fullblock")
        assert len(numbers.read_bytes()) == 6400
        assert len(set(numbers.read_bytes())) == 256, "these are not random"
        dice.destroy()
        dice.start()
