# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""snd-aloop in the place of a real card: what is played into it can be recorded, and back."""

import dataclasses

import programs

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


def load():
    ids = ",".join(CARDS)
    programs.run(
        "modprobe", "snd-aloop", f"enable={','.join('1' for _ in CARDS)}", f"id={ids}", f"pcm_substreams={SUBDEVICES}"
    )
