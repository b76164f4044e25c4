# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A CPU goes and comes while a card plays, also the one that its process is kept on: not one sample is lost."""

import pathlib

import alsa_tools
import pytest
import sounds
from kernel_log import KernelLog
from sounds import Layout

pytestmark = pytest.mark.two_cpus
CPU = pathlib.Path("/sys/devices/system/cpu/cpu1/online")


@pytest.fixture(autouse=True)
def online():
    yield
    CPU.write_text("1")


@pytest.mark.kernel_may_say("no longer affine to cpu1")
@pytest.mark.parametrize("cpus", ["0", "1", "0-1"])
def test_a_cpu_goes_and_comes_while_playing(make_card, real, cpus):
    card = make_card("music", "--host", "alsa", "--playback-device", real.device, "--cpus", cpus)
    sound = sounds.noise(Layout(), 4 * 48000)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=3840)
    begun, log = recorder.frames(), KernelLog()
    for number, state in enumerate("0101", 1):
        recorder.wait_for(begun + number * 24000)
        CPU.write_text(state)
        assert CPU.read_text().strip() == state
        assert player.running(), "the sound ended before"
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    told = any("(audio) no longer affine to cpu1" in text for _, text in log.new_lines())
    assert told == (cpus == "1")
