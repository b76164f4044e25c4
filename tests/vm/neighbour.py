# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The card next door: whatever a test does to another one, this one plays each sample."""

import alsa_tools
import sounds
from real_card import RealCard
from sounds import Layout

REAL = RealCard("real1", 5)


class Neighbour:
    """A card on a real card of its own."""

    def __init__(self, make_card, name="phone", real=REAL):
        self._real = real
        # Without elements: udev may call alsactl late, with the number of a card that has gone since, which
        # may be this card's by then.
        self._card = make_card(name, "--host", "alsa", "--playback-device", self._real.device, "--controls", "none")

    def device_pid(self):
        return self._card.device.pid

    def play(self, meanwhile=lambda: None, frames=14400):
        """Plays; `meanwhile` is called while it does. Every sample has to arrive."""
        sound = sounds.noise(Layout(), frames, seed=11)
        recorder = alsa_tools.Recorder(self._real.far_end, Layout())
        player = alsa_tools.Player(self._card.pcm, sound, period=1200, buffer=4800)
        meanwhile()
        player.finish()
        result = recorder.compare(sound)
        assert result.exact, str(result)
