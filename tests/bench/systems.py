# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The systems that are measured side by side; runs inside the virtual machine.

direct      the application straight on snd-aloop: nothing can be less
ours-alsa   virtio_snd, virtio_loopback and vhost-user-sound, which plays on the same snd-aloop
ours-null   the same with a host that throws the samples away: what the stack alone costs
"""

import programs
from card import Card
from real_card import RealCard


class System:
    """A PCM to play on. Used with `with`: it is there inside the block."""

    name = ""
    far_end = None  # where the real card's sound can be heard
    card = None

    def __enter__(self):
        if self.card:
            self.card.start()
        return self

    def __exit__(self, kind, *_):
        programs.Program.kill_all() if kind else None
        if self.card:
            self.card.abandon() if kind else self.card.destroy()

    @property
    def processes(self):
        """The processes of the stack by their part in it."""
        if not self.card:
            return {}
        return {"adapter": self.card.adapter.pid, "device": self.card.device.pid}


class Direct(System):
    name = "direct"

    def __init__(self, real, name=""):
        self.pcm, self.far_end = real.device, real.far_end


class OursAlsa(System):
    name = "ours-alsa"

    def __init__(self, real, name="bench"):
        self.card = Card(name, "--host", "alsa", "--playback-device", real.device)
        self.pcm, self.far_end = self.card.pcm, real.far_end


class OursNull(System):
    name = "ours-null"

    def __init__(self, _real, name="bench"):
        self.card = Card(name, "--host", "null")
        self.pcm = self.card.pcm


ALL = [Direct, OursAlsa, OursNull]


def make(kind, **options):
    """A system on the first real card."""
    return kind(RealCard("real0"), **options)
