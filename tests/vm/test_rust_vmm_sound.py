# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A sound device that is not ours: rust-vmm's vhost-device-sound, made for virtual machines, as its authors published
it, with its end in the graph of a PipeWire server."""

import os
import pathlib

import alsa_tools
import pytest
import sounds
from card import Card
from graph_tools import GraphPlayer, GraphRecorder
from neighbour import Neighbour
from programs import wait_until
from sounds import Layout, Sound

PROGRAM = pathlib.Path(os.environ.get("VIRTIO_LOOPBACK_TOOLS", "/nonexistent"), "bin", "vhost-device-sound")
PERIOD, BUFFER = 960, 7680
QUANTUM = 1024  # of the graph
STATUS = pathlib.Path("/proc/asound/music/pcm0p/sub0/status")


class StrangersCard(Card):
    options = ("--queue-size", "64")  # it has no longer ones

    def device_command(self):
        assert PROGRAM.exists(), "no sound device of rust-vmm: see STRANGERS in tests/harness/steps.py"
        return [PROGRAM, "--socket", self.socket, "--backend", "pipewire"]

    def start_device(self):
        """Its start may miss what the sound server answers, and wait for that for ever: then the next one."""
        for _ in range(5):
            try:
                return super().start_device()
            except AssertionError as error:
                failed = error
                self.kill_device()
        raise failed

    def kill_device(self):
        self.device.kill()
        self.device.alive.remove(self.device)  # it may have panicked
        self.device = None


def check(server, card, sound):
    """Plays a sound. The device counts the header of each message as a frame: it leaves out the last frame of each
    period; and what the graph has not taken yet when it is told to stop."""
    recorder = GraphRecorder(server, "speakers", sound.layout)
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    expected = without_last_frames(sound)
    result = recorder.compare(expected)
    assert result.exact or result.first_difference >= expected.frames - QUANTUM, str(result)


def without_last_frames(sound):
    data, frame = sound.data, sound.layout.frame_bytes
    periods = (data[at : at + PERIOD * frame] for at in range(0, len(data), PERIOD * frame))
    return Sound(sound.layout, b"".join(period[:-frame] for period in periods))


def test_it_plays_and_captures(make_server, make_card):
    server = make_server()
    card = make_card("music", kind=StrangersCard)
    sound = sounds.noise(Layout(), 100 * PERIOD)
    for _ in range(2):
        check(server, card, sound)
    recorder = alsa_tools.Recorder(card.pcm, Layout(), period=PERIOD, buffer=BUFFER)
    player = GraphPlayer(server, "microphone", sound)
    assert player.wait(20) == 0, player.output()
    assert any(recorder.finish().data), "nothing but silence"


@pytest.mark.kernel_may_say(r"virtio_snd virtio\d+: control message \(0x0000010\d\) timeout")
def test_it_dies_while_it_plays(make_server, make_card):
    """vhost-device-sound 0.3.0 cannot go on where another one stopped: it never gets done with an event queue that it
    is kicked for, and gives up when it is to stop a stream that it has not started. Its application has an error, all
    others play, and a device made anew is as good as ever."""
    server = make_server()
    neighbour = Neighbour(make_card)
    card = make_card("music", kind=StrangersCard)
    player = alsa_tools.Player(card.pcm, sounds.noise(Layout(), 480_000), period=PERIOD, buffer=BUFFER)
    wait_until(lambda: "RUNNING" in STATUS.read_text(), "the sound")
    neighbour.play()
    card.kill_device()
    card.start_device()
    neighbour.play()
    assert player.wait(60) == 1 and "Input/output error" in player.output(), player.output()
    neighbour.play()
    card.kill_device()
    card.destroy()
    card.start()
    check(server, card, sounds.noise(Layout(), 50 * PERIOD))
