# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A CPU goes and comes while a card plays and records, also the one that its process is kept on: no sample is lost."""

import pathlib
import signal

import alsa_tools
import holes
import pytest
import sounds
from kernel_log import KernelLog
from sounds import Layout
from survivors import RespawnedCard
from test_survive import LONGEST

pytestmark = pytest.mark.two_cpus
CPU = pathlib.Path("/sys/devices/system/cpu/cpu1/online")


@pytest.fixture(autouse=True)
def online():
    yield
    CPU.write_text("1")


@pytest.mark.kernel_may_say("no longer affine to cpu1")
@pytest.mark.parametrize("cpus", ["0", "1", "0-1"])
def test_a_cpu_goes_and_comes_while_playing(make_card, real, cpus):
    host = ["--host", "alsa", "--playback-device", real.device, "--capture-device", real.device]
    card = make_card("music", *host, "--cpus", cpus)
    sound = sounds.noise(Layout(), 4 * 48000)
    # Longer than what is played: CPUs go and come while it is captured.
    said = sounds.noise(Layout(), 5 * 48000, seed=2).then_silence(4800)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    own = alsa_tools.Recorder(card.pcm, sound.layout, period=480, buffer=3840)
    speaker = alsa_tools.Player(real.far_end, said, period=480, buffer=4800)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=3840)
    begun, log = recorder.frames(), KernelLog()
    for number, state in enumerate("0101", 1):
        recorder.wait_for(begun + number * 24000)
        CPU.write_text(state)
        assert CPU.read_text().strip() == state
        assert player.running(), "the sound ended before"
    player.finish()
    speaker.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    captured = own.compare(said)
    assert captured.arrived, str(captured)
    told = any("(audio) no longer affine to cpu1" in text for _, text in log.new_lines())
    assert told == (cpus == "1")


@pytest.mark.kernel_may_say("no longer affine to cpu1")
@pytest.mark.parametrize("cpus", ["1", "0-1"])
def test_a_process_is_replaced_while_a_cpu_of_its_is_away(make_card, real, cpus):
    card = make_card("music", "--host", "alsa", "--playback-device", real.device, "--cpus", cpus, kind=RespawnedCard)
    sound = sounds.noise(Layout(), 3 * 48000)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=3840)
    recorder.wait_for(recorder.frames() + 24000)
    CPU.write_text("0")
    card.end_device(signal.SIGKILL)
    player.finish()
    holes.check(holes.pieces(sound, recorder.finish(), recorder.buffer), sound, LONGEST)
    assert ("CPU 1 is offline" in card.device.output()) == (cpus == "1")
