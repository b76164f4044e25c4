# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The device process dies while an application plays and another one captures: neither hears of it, and
what is heard has one short hole."""

import json
import os
import signal

import alsa_tools
import holes
import programs
import pytest
import sounds
from card import Card
from programs import Program, wait_until
from sounds import Layout

# 50 ms.
LONGEST = 2400
# snd-aloop's pointer moves in steps of so many frames.
TICK = 192
PERIOD, BUFFER = 480, 3840


class SupervisedCard(Card):
    """`virtio-loopback run -- vhost-user-sound`: the adapter starts the device process again."""

    def start(self):
        self.start_adapter()
        return self

    def launch_adapter(self):
        sound = [programs.path_of("vhost-user-sound"), *self.host]
        self.adapter = Program(programs.path_of("virtio-loopback"), "run", "--name", self.name, "--", *sound)

    def device_pid(self):
        """None between two of them."""
        with open(f"/proc/{self.adapter.pid}/task/{self.adapter.pid}/children") as file:
            children = file.read().split()
        return int(children[0]) if children else None

    def end_device(self, number):
        """Sends a signal to the device process; returns when another one serves the card."""
        before = self.device_pid()
        os.kill(before, number)
        wait_until(lambda: self.device_pid() not in (None, before), "another device process")
        wait_until(self.ready, "the card to be served again")

    def told(self):
        """What the device process says of itself."""
        sound = programs.path_of("vhost-user-sound")
        reply = programs.run(sound, "tell", f"/run/virtio-loopback/{self.name}.commands", "status", "--json")
        return json.loads(reply.stdout)


@pytest.fixture
def supervised(make_card, real):
    return make_card(
        "music",
        "--host",
        "alsa",
        "--playback-device",
        real.device,
        "--capture-device",
        real.device,
        kind=SupervisedCard,
    )


@pytest.fixture
def sound():
    return sounds.noise(Layout(), 4 * 48000)


def check(found, sound, times=1):
    """The whole sound but for so many short holes; nothing of it twice, or in another order."""
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    gaps = holes.holes(found)
    assert len(gaps) == times, found
    for gap in gaps:
        assert 0 <= gap.missing <= gap.length <= LONGEST, gaps
    return gaps


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSTOP])
def test_it_dies_while_playing(supervised, real, sound, record_property, number):
    """A device process that was stopped is replaced, too: ALSA gives up after 100 ms without progress."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(supervised.pcm, sound, period=PERIOD, buffer=BUFFER)
    recorder.wait_for(recorder.frames() + 48000)
    supervised.end_device(number)
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    record_property("holes", str(holes.holes(found)))
    check(found, sound)
    assert "restarts so far: 1" in supervised.adapter.output()
    assert supervised.told()["streams"][0]["gaps"] == 1


def test_it_dies_while_capturing(supervised, real, sound):
    """arecord hears of nothing; what it has is the sound with one hole."""
    recorder = alsa_tools.Recorder(supervised.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    player = alsa_tools.Player(real.far_end, sound.then_silence(4800), period=480, buffer=4800)
    recorder.wait_for(recorder.frames() + 48000)
    supervised.end_device(signal.SIGKILL)
    player.finish()
    recording = recorder.finish()
    heard = sounds.Sound(sound.layout, recording.data[: (sound.frames + 9600) * sound.layout.frame_bytes])
    found = holes.pieces(sound, heard, 9600)
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    (gap,) = holes.holes(found)
    assert 0 <= gap.missing <= LONGEST + TICK, gap


def test_both_die_at_once(supervised, real, sound):
    """The next adapter finds what was in flight by its name."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(supervised.pcm, sound, period=PERIOD, buffer=BUFFER)
    recorder.wait_for(recorder.frames() + 48000)
    supervised.adapter.kill()
    supervised.start_adapter()
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    (gap,) = holes.holes(found)
    assert 0 <= gap.missing <= gap.length, gap
