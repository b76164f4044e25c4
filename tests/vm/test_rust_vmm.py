# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that is not ours: rust-vmm's source of random numbers (vhost-device-rng), made for virtual
machines, as its authors published it; and beside it our own example of one (vhost-user-rng).
"""

import errno
import os
import pathlib
import signal
import threading
import time

import guest_memory
import programs
import pytest
from card import Card
from neighbour import Neighbour
from programs import wait_until
from survivors import ReplacedDevice, child_of

PROGRAM = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_TOOLS", "/nonexistent"), "bin", "vhost-device-rng")
OUR_PROGRAM = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_BINARIES", "/nonexistent"), "examples", "vhost-user-rng")
READ = 64  # bytes that virtio_rng asks for at once
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


class StartedDice(ReplacedDevice, Dice):
    """The same, started by its adapter, and again."""

    def start(self):
        self.start_adapter()
        return self

    def launch_adapter(self):
        program, *options = self.device_command()
        guest_memory.add([str(program)])  # where its adapter is
        super().launch_adapter(program, *options)

    def device_pid(self):
        """None between two of them."""
        return child_of(self.adapter.pid)


class OurDice(StartedDice):
    """Our own example, started by its adapter."""

    def __init__(self, name):
        super().__init__(name)
        self.socket = programs.FOLDER / f"{name}.socket"

    def device_command(self):
        return [OUR_PROGRAM, self.socket]


class Reader(threading.Thread):
    """Reads from /dev/hwrng, not as fast as it can, until there is an error."""

    def __init__(self):
        super().__init__(daemon=True)
        (RANDOM / "rng_current").write_text(sources()[0])
        self.pieces = []
        self.error = None
        self.start()

    def run(self):
        file = os.open("/dev/hwrng", os.O_RDONLY)
        try:
            while True:
                self.pieces.append(os.read(file, READ))
                time.sleep(0.01)
        except OSError as error:
            self.error = error.errno
        finally:
            os.close(file)

    def wait_for_more(self):
        wanted = len(self.pieces) + 20
        wait_until(lambda: len(self.pieces) >= wanted or self.error, "random numbers")
        assert self.error is None

    def end(self):
        """The device has gone, which ends the reader."""
        self.join(10)
        assert self.error == errno.ENODEV
        # Each number was read once, and none is of a buffer that nobody has filled.
        assert len(set(self.pieces)) == len(self.pieces) and bytes(READ) not in self.pieces


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


def test_it_dies_while_its_numbers_are_read(make_card):
    """It keeps nothing between two messages: who reads gets what was asked for, and goes on."""
    dice = make_card("dice", kind=OurDice)
    reader = Reader()
    for _ in range(3):
        reader.wait_for_more()
        dice.end_device(signal.SIGKILL)
    reader.wait_for_more()
    dice.destroy()
    reader.end()


@pytest.mark.unserved_rng
@pytest.mark.kernel_may_say(r"virtio_rng virtio\d+: input:id 0 is not a head")
def test_one_that_cannot_go_on_dies_while_its_numbers_are_read(make_card):
    """vhost-device-rng 0.1.0 begins its used ring at 0 again: its reader waits for ever, or for the end of the
    device; it is nobody else's business, and a new device is as good as ever."""
    neighbour = Neighbour(make_card)
    dice = make_card("dice", kind=StartedDice)
    reader = Reader()
    reader.wait_for_more()
    dice.end_device(signal.SIGKILL)
    read = len(reader.pieces)
    neighbour.play()
    assert len(reader.pieces) <= read + 1 and reader.is_alive(), "it goes on, and ARCHITECTURE.md says that it cannot"
    dice.destroy()
    reader.end()
    dice.start()
    reader = Reader()
    reader.wait_for_more()
    dice.destroy()
    reader.end()
