# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The real card goes, returns, or is somebody else's: the stream goes on, and so does its sound."""

import pathlib

import alsa_tools
import pytest
import sounds
from programs import Program, wait_until
from real_card import RealCard
from sounds import Layout
from wave_compare import compare

GONE = "goes on in silence until it can be used"
BACK = "what it uses is back"


@pytest.fixture(autouse=True)
def plugged_in(real):
    """Whatever a test did: the real card is there again at its end."""
    yield
    if not real.plugged_in():
        real.plug_in()


def told(card):
    """How often the log says that the card is gone, and that it is back."""
    log = card.device.output()
    return log.count(GONE), log.count(BACK)


def check_end_of(sound, recorder):
    """The recording holds the sound from some frame on to its end; returns the frame."""
    received = recorder.finish()
    frame_bytes = sound.layout.frame_bytes
    loud = len(received.data) - len(received.data.lstrip(b"\0"))
    heard = received.data[loud // frame_bytes * frame_bytes :]
    first = heard[: 16 * frame_bytes]
    assert first, "the recording is silent"
    start = sound.data.find(first)
    assert start >= 0 and start % frame_bytes == 0, "what is recorded is no part of the sound"
    result = compare(sound.data[start:], heard, frame_bytes, recorder_frames=recorder.buffer)
    assert result.exact, f"from frame {start // frame_bytes} on: {result}"
    return start // frame_bytes


def test_the_real_card_is_unplugged_and_plugged_in_again(make_card, real):
    card = make_card("music", "-v", "--host", "alsa", "--playback-device", real.device)
    sound = sounds.noise(Layout(), 480 * 600)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=1920)
    wait_until(lambda: "started" in card.device.output(), "the stream to start")
    for times in (1, 2):
        real.unplug()
        wait_until(lambda: told(card) == (times, times - 1), "the log to say that the card is gone")
        assert player.running()
        real.plug_in()
        wait_until(lambda: told(card) == (times, times), "the log to say that the card is back")
    recorder = alsa_tools.Recorder(real.far_end, Layout())
    player.finish()
    assert check_end_of(sound, recorder) > 480
    assert told(card) == (2, 2), card.device.output()
    assert card.device.output().count("stream 0: started") == 1, "the stream was started again"


def test_it_is_unplugged_while_it_captures(make_card, real):
    """arecord gets as many frames as before, in silence, and then the real card's again."""
    card = make_card("music", "--host", "alsa", "--capture-device", real.device)
    recorder = alsa_tools.Recorder(card.pcm, Layout(), period=480, buffer=1920)
    real.unplug()
    wait_until(lambda: told(card) == (1, 0), "the log to say that the card is gone")
    recorder.wait_for(recorder.frames() + 4800)
    real.plug_in()
    wait_until(lambda: told(card) == (1, 1), "the log to say that the card is back")
    sound = sounds.noise(Layout(), 48000).then_silence(4800)
    alsa_tools.play(real.far_end, sound, period=480, buffer=4800)
    result = recorder.compare(sound)
    assert result.arrived, str(result)


def test_it_is_unplugged_while_nothing_plays(make_card, real):
    """A card that is away at PREPARE is played on as soon as it is there."""
    card = make_card("music", "--host", "alsa", "--playback-device", real.device)
    real.unplug()
    sound = sounds.noise(Layout(), 480 * 400)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=1920)
    wait_until(lambda: told(card) == (1, 0), "the log to say that the card is gone")
    real.plug_in()
    wait_until(lambda: told(card) == (1, 1), "the log to say that the card is back")
    recorder = alsa_tools.Recorder(real.far_end, Layout())
    player.finish()
    check_end_of(sound, recorder)


def test_another_card_is_not_disturbed(make_card, real):
    """Two streams of one process on two real cards: one goes, the other plays on without a gap."""
    playing = RealCard("real1")
    card = make_card(
        "music", "--host", "alsa", "--playback-device", playing.device, "--capture-device", real.device
    )
    sound = sounds.noise(Layout(), 480 * 200)
    captured = alsa_tools.Recorder(card.pcm, Layout(), period=480, buffer=1920)
    recorder = alsa_tools.Recorder(playing.far_end, Layout())
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=1920)
    recorder.wait_for(recorder.frames() + 9600)
    real.unplug()
    wait_until(lambda: told(card) == (1, 0), "the log to say that the card is gone")
    real.plug_in()
    wait_until(lambda: told(card) == (1, 1), "the log to say that the card is back")
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    captured.finish()


def test_a_busy_card_is_played_on_when_it_is_free(make_card, real):
    card = make_card("music", "--host", "alsa", "--playback-device", real.device)
    holder = Program(
        "aplay", "-q", "-D", real.device, "-t", "raw", "-f", "S16_LE", "-c2", "-r48000", "/dev/zero"
    )
    status = pathlib.Path(f"/proc/asound/{real.id}/pcm0p/sub{real.subdevice}/status")
    wait_until(lambda: "RUNNING" in status.read_text(), "the other program to have the card")
    sound = sounds.noise(Layout(), 480 * 300)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=1920)
    wait_until(lambda: told(card) == (1, 0), "the log to say that the card is busy")
    holder.kill()
    wait_until(lambda: told(card) == (1, 1), "the log to say that the card is free")
    recorder = alsa_tools.Recorder(real.far_end, Layout())
    player.finish()
    check_end_of(sound, recorder)
    assert told(card) == (1, 1), card.device.output()
