# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""virtio_snd is loaded when the card is there already, as at the first card after a boot."""

import alsa_tools
import programs
import pytest
import sounds
from card import Card
from programs import wait_until
from sounds import Layout


class LateCard(Card):
    """Its driver is loaded by a person, if udev has not been quicker."""

    def wait_ready(self):
        wait_until(lambda: self.attribute("attached") == "1", f"{self.name}: the adapter")
        programs.run("modprobe", "virtio_snd")
        super().wait_ready()


@pytest.mark.core
def test_a_driver_that_comes_after_its_card(make_card, real):
    programs.run("modprobe", "-r", "virtio_snd")
    card = make_card("music", "--host", "alsa", "--playback-device", real.device, kind=LateCard)
    sound = sounds.noise(Layout(), 24000, seed=9)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(card.pcm, sound, period=480, buffer=1920)
    result = recorder.compare(sound)
    assert result.exact, str(result)
