# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""snd-aloop in the place of a real card: what is played into it can be recorded, and back."""

import dataclasses
import pathlib
import re

import programs
from programs import wait_until

DRIVER = pathlib.Path("/sys/bus/platform/drivers/snd_aloop")
CARDS = ["real0", "real1"]
SUBDEVICES = 8


@dataclasses.dataclass(frozen=True)
class RealCard:
    """One cable of a loopback card, with a device at its side and a listener at the other."""

    id: str
    subdevice: int = 0

    @property
    def device(self):
        """The PCM for the sound device: plays and captures."""
        return f"hw:{self.id},0,{self.subdevice}"

    @property
    def far_end(self):
        """The PCM for the test: records what was played, plays what will be captured."""
        return f"hw:{self.id},1,{self.subdevice}"

    def buffer(self):
        """How many frames who plays on it has asked for."""
        settings = pathlib.Path(f"/proc/asound/{self.id}/pcm0p/sub{self.subdevice}/hw_params").read_text()
        return int(re.search(r"^buffer_size: (\d+)", settings, re.MULTILINE)[1])

    # The whole card: all its cables.

    @property
    def _bus_id(self):
        return f"snd_aloop.{CARDS.index(self.id)}"

    def plugged_in(self):
        return (DRIVER / self._bus_id).exists()

    def unplug(self):
        """Returns when nobody has the card open any more."""
        (DRIVER / "unbind").write_text(self._bus_id)

    def plug_in(self):
        (DRIVER / "bind").write_text(self._bus_id)
        wait_until(pathlib.Path("/proc/asound", self.id).exists, f"{self.id} to be back")


def load():
    ids = ",".join(CARDS)
    programs.run(
        "modprobe", "snd-aloop", f"enable={','.join('1' for _ in CARDS)}", f"id={ids}", f"pcm_substreams={SUBDEVICES}"
    )
