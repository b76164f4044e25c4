# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The measuring set-up without our stack: what aplay sends into the real card is what arecord gets.

The sound ends with a buffer of silence, for snd-aloop hears of the end of a sound up to a tick of
the kernel's clock late, and repeats what lies in the player's buffer until then.
"""

import alsa_tools
import pytest
import sounds
from sounds import Layout


@pytest.mark.core
@pytest.mark.parametrize("mmap", [False, True], ids=["write", "mmap"])
def test_the_real_card_is_exact(real, mmap):
    sound = sounds.noise(Layout(), 48000).then_silence(1920)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.play(real.device, sound, period=480, buffer=1920, mmap=mmap)
    result = recorder.compare(sound)
    assert result.exact, str(result)
    assert player.parameter("period_size") == 480
