# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The adapter is not in the way of sound: stopped or killed, nothing is heard of it."""

import os
import pathlib
import shutil
import signal
import time

import alsa_tools
import programs
import pytest
import sounds
from liar import SET_MEM_TABLE, SET_VRING_ENABLE, Liar, number, reply
from programs import wait_until
from sounds import Layout


@pytest.fixture
def sound():
    return sounds.noise(Layout(), 4 * 48000)


def test_a_whole_sound_is_played_while_the_adapter_is_stopped(music, real, sound):
    """From the open of the card to its close."""
    music.adapter.send(signal.SIGSTOP)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(music.pcm, sound, period=480, buffer=1920)
    result = recorder.compare(sound)
    assert result.exact, str(result)
    music.adapter.send(signal.SIGCONT)


@pytest.mark.core
def test_the_adapter_is_stopped_while_playing(music, real, sound):
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=1920)
    recorder.wait_for(recorder.frames() + 24000)
    music.adapter.send(signal.SIGSTOP)
    player.finish()
    music.adapter.send(signal.SIGCONT)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.core
def test_the_adapter_is_killed_while_playing(music, real, sound):
    """Nobody is attached to the device for the rest of the sound, and of the next one."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=1920)
    recorder.wait_for(recorder.frames() + 24000)
    music.kill_adapter()
    assert music.state() == "live"
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.core
@pytest.mark.parametrize("times", [1, 4])
def test_the_adapter_is_killed_and_attached_again_while_playing(music, real, sound, times):
    """Not one sample is lost, whether one or several adapters come after each other."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=1920)
    for _ in range(times):
        recorder.wait_for(recorder.frames() + 12000)
        music.kill_adapter()
        time.sleep(0.1)
        music.start_adapter()
        assert player.running(), "the sound ended before the adapter was back"
        assert "music: virtio device 25 (sound) is attached" in music.adapter.output()
        assert "serving again" in music.adapter.output()
    assert music.counter("restarts") == times
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)


def test_the_adapter_is_upgraded_while_playing(music, real, sound):
    """As a package manager does it: another file takes the program's place, then the program is told to end."""
    program = pathlib.Path(programs.path_of("virtio-loopback"))
    old = program.stat().st_ino
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=1920)
    recorder.wait_for(recorder.frames() + 24000)
    new = program.with_suffix(".new")
    shutil.copy2(program, new)
    new.replace(program)
    assert music.adapter.stop() == 0, music.adapter.output()
    music.start_adapter()
    assert player.running(), "the sound ended before the adapter was back"
    assert os.stat(f"/proc/{music.adapter.pid}/exe").st_ino == program.stat().st_ino != old
    assert "serving again" in music.adapter.output()
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)


# How it goes, and how it comes back.
ENDS = {
    "killed": (lambda music: music.kill_adapter(), lambda music: music.start_adapter()),
    "told to end": (lambda music: music.adapter.stop(), lambda music: music.start_adapter()),
    "stopped": (lambda music: music.adapter.send(signal.SIGSTOP), lambda music: music.adapter.send(signal.SIGCONT)),
}


@pytest.mark.core
@pytest.mark.parametrize(("go", "come_back"), ENDS.values(), ids=ENDS)
def test_the_adapter_goes_and_comes_back_while_capturing(music, real, sound, go, come_back):
    sound = sound.then_silence(4800)
    recorder = alsa_tools.Recorder(music.pcm, sound.layout, period=480, buffer=1920)
    player = alsa_tools.Player(real.far_end, sound, period=480, buffer=4800)
    recorder.wait_for(recorder.frames() + 48000)
    go(music)
    time.sleep(0.1)
    come_back(music)
    player.finish()
    result = recorder.compare(sound)
    assert result.arrived, str(result)


def test_a_new_adapter_serves_a_card_that_was_left_alone(music, real):
    """Killed while nobody plays; the next sounds are exact with and without a successor."""
    for attach in (False, True):
        if attach:
            music.start_adapter()
        else:
            music.kill_adapter()
        sound = sounds.noise(Layout(), 24000, seed=9)
        recorder = alsa_tools.Recorder(real.far_end, sound.layout)
        alsa_tools.play(music.pcm, sound, period=480, buffer=1920)
        result = recorder.compare(sound)
        assert result.exact, str(result)


def test_a_device_process_that_comes_back_serves_the_card(make_card, tmp_path):
    """With nobody playing, the adapter waits for a new device process and connects to it."""
    card = make_card("music", "--host", "null")
    card.device.kill()
    wait_until(lambda: card.state() != "live", "the loss of the device process")
    card.host = ["--host", "file", "--playback-file", tmp_path / "out.wav"]
    card.start_device()
    card.wait_ready()
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 9600), period=480, buffer=1920)


def test_a_device_process_that_refuses_is_followed_by_one_that_does_not(music, real, sound):
    """It may be hostile, or have no memory left; the card stays, and its user is told once."""
    music.device.kill()
    music.socket.unlink()
    device = Liar(music.socket, SET_MEM_TABLE, lambda _: reply(SET_MEM_TABLE, number(1)))
    wait_until(lambda: device.told > 2, "some tries")
    log = music.adapter.output()
    waits = f"cannot serve music, and waits for another device process on {music.socket}: the device process refused"
    assert log.count(f"{waits} SET_MEM_TABLE") == 1, log
    assert music.folder.exists() and music.adapter.running()
    device.close()
    music.start_device()
    music.wait_ready()
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(music.pcm, sound, period=480, buffer=1920)
    result = recorder.compare(sound)
    assert result.exact, str(result)


class Slow(Liar):
    """Takes longer to start four queues than the kernel waits, the first time. The eventfds stay open."""

    def __init__(self, path):
        self.files = []
        super().__init__(path, SET_VRING_ENABLE, self.enable)

    def enable(self, _):
        if self.told <= 4:
            time.sleep(1.5)
        return reply(SET_VRING_ENABLE, number(0))

    def _take(self, request, files):
        self.files += files

    def close(self):
        super().close()
        for file in self.files:
            os.close(file)


def test_a_start_that_was_too_slow_for_the_kernel_is_made_again(make_card):
    """Else it would be served, and nobody would know."""
    music = make_card("music", "--host", "null")
    music.device.kill()
    music.device = None
    wait_until(lambda: music.state() == "quiesced", "the loss of the device process")
    restarts = music.counter("restarts")
    device = Slow(music.socket)
    wait_until(lambda: "too late for the kernel" in music.adapter.output(), "a late start", 20)
    music.wait_ready()
    assert device.told == 8 and music.counter("restarts") == restarts + 1
    music.destroy()
    device.close()
