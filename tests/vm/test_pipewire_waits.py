# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The graph lets a card wait, or its server goes away, or the card's process: who plays waits, or time passes."""

import signal

import alsa_tools
import holes
import linux
import pytest
import sounds
from graph_tools import GraphPlayer, GraphRecorder
from machine import watches_itself
from programs import wait_until
from sounds import Layout
from survivors import RespawnedCard, SupervisedCard
from test_pipewire import NODE
from wave_compare import compare

GONE = "PipeWire: the server is gone"
# Ports without a session manager that asks for them; whether there are links is the test's.
UNLINKED = ("--property", "adapter.auto-port-config={ mode = dsp }")
MONO = Layout("S16_LE", 1)
# Frames of a hole: the next process's stream is silent until the session manager has linked it. 50 ms where a guard
# replaces the process and the graph's cycle is short, and four cycles of 1024 frames, on a machine of 10^9 instructions
# a second; each run's figures are in junit.xml.
SLOWER = 2400 if watches_itself() else 0
LONGEST_OF_A_GUARD = 2400 + SLOWER
LONGEST = 4 * 1024 + SLOWER
# From here on, the kernel waits for a period no longer than 100 ms, or 1.1 times the buffer.
IMPATIENT = linux.VERSION >= (6, 6)


def without_pause(received, frames, frame_bytes):
    """The recording without the silence around and within a sound of so many frames; and how many frames
    of silence were within."""
    data = received.data
    loud = len(data) - len(data.lstrip(b"\0"))
    data = data[loud // frame_bytes * frame_bytes :].rstrip(b"\0")
    data += bytes(-len(data) % frame_bytes)
    extra = len(data) // frame_bytes - frames
    pause = data.find(bytes(extra * frame_bytes))
    while pause % frame_bytes:
        pause = data.find(bytes(extra * frame_bytes), pause + 1)
    assert extra > 0 and pause >= 0, f"{extra} frames too many, and no pause"
    return data[:pause] + data[pause + extra * frame_bytes :], extra


@pytest.mark.parametrize(
    "device, mmap, formats",
    # A plug that converts nothing is the hw PCM itself.
    [("plughw:music", False, "S32_LE"), ("hw:music", True, "S16_LE")],
)
def test_held_playback_goes_on_where_it_stopped(make_server, make_card, device, mmap, formats):
    server = make_server(policy=False, channels=1)
    card = make_card("music", *NODE, *UNLINKED, "--on-cork", "hold", "--formats", formats)
    sound = sounds.noise(MONO, 2 * 48000)
    recorder = GraphRecorder(server, "speakers", MONO)
    player = alsa_tools.Player(device, sound, period=480, buffer=4800, mmap=mmap)
    # Not linked from the start: nothing moves until it is.
    server.wait_for_node("music")
    recorder.wait_for(24000)
    server.link("music", "speakers")
    recorder.wait_for(24000)
    server.unlink("music", "speakers")
    wait_until(lambda: server.nodes()["music"]["state"] != "running", "the node to wait")
    # Longer than everything that is in the buffers.
    before = recorder.frames()
    recorder.wait_for(48000)
    assert player.running(), player.output()
    assert recorder.frames() - before >= 48000
    server.link("music", "speakers")
    player.finish()
    heard, pause = without_pause(recorder.finish(), sound.frames, MONO.frame_bytes)
    difference = alsa_tools.difference(sound.data, heard, MONO.frame_bytes)
    assert not difference, difference
    assert pause >= 40000
    assert "gaps" not in card.device.output(), card.device.output()


@pytest.mark.skipif(not IMPATIENT, reason="this kernel waits for 10 s")
def test_a_blocking_writer_on_hw_does_not_survive_a_hold(make_server, make_card):
    """What the manual says about hold: the kernel tells such a program of an I/O error."""
    server = make_server(policy=False, channels=1)
    make_card("music", *NODE, *UNLINKED, "--on-cork", "hold")
    player = alsa_tools.Player("hw:music", sounds.noise(MONO, 48000), period=480, buffer=4800)
    server.wait_for_node("music")
    assert player.wait(10) == 1
    assert "Input/output error" in player.output(), player.output()


@pytest.mark.parametrize("device", ["hw:music", "plughw:music"])
def test_time_passes_for_drained_playback(make_server, make_card, device):
    """By default. Nothing piles up: the player ends while it waits, and what is heard in between is that
    part of the sound which is due then."""
    server = make_server(policy=False, channels=1)
    make_card("music", *NODE, *UNLINKED)
    sound = sounds.noise(MONO, 4 * 48000)
    recorder = GraphRecorder(server, "speakers", MONO)
    player = alsa_tools.Player(device, sound, period=480, buffer=4800)
    server.wait_for_node("music")
    recorder.wait_for(48000)
    server.link("music", "speakers")
    recorder.wait_for(48000)
    server.unlink("music", "speakers")
    player.finish()
    received = recorder.finish()
    data = received.data
    loud = len(data) - len(data.lstrip(b"\0"))
    data = data[loud // 2 * 2 :].rstrip(b"\0")
    start = sound.data.find(data[:64])
    assert start >= 0 and start % 2 == 0, "what is heard is no part of the sound"
    heard = len(data) // 2
    assert 24000 < heard < 72000 and start // 2 > 24000
    assert data == sound.data[start : start + len(data)], "a hole in what is heard"


@pytest.mark.parametrize("period, periods", [(1920, 4), (2160, 2), (4800, 2), (480, 2), (64, 4)])
def test_a_short_buffer_is_let_wait_no_longer_than_the_kernel_waits(make_server, make_card, period, periods):
    """Nothing links the card: from START on, the graph is waited for, then a clock ends the first period."""
    server = make_server(policy=False, channels=1)
    card = make_card("music", *NODE, *UNLINKED)
    for seed in range(2):
        sound = sounds.noise(MONO, period * periods * 6, seed)
        alsa_tools.play("hw:music", sound, period=period, buffer=period * periods)
        # The next one opens its place in the graph anew.
        server.wait_until_gone("music")
    assert card.device.output().count("gaps") == 0, card.device.output()


def said(card):
    """How often the log says that the server is missing, and that it is back."""
    log = card.device.output()
    return log.count("goes on in silence until it can be used"), log.count("what it uses is back")


def check_end_of(sound, recorder):
    """The recording holds the sound from some frame on to its end; returns the frame."""
    received = recorder.finish()
    frame_bytes = sound.layout.frame_bytes
    loud = len(received.data) - len(received.data.lstrip(b"\0"))
    first = received.data[loud // frame_bytes * frame_bytes :][: 16 * frame_bytes]
    assert first, "the recording is silent"
    start = sound.data.find(first)
    assert start >= 0 and start % frame_bytes == 0, "what is recorded is no part of the sound"
    result = compare(sound.data[start:], received.data, frame_bytes)
    assert result.exact, f"from frame {start // frame_bytes} on: {result}"
    return start // frame_bytes


def test_a_server_that_dies_and_returns(make_server, make_card):
    server = make_server(channels=1)
    card = make_card("music", "-v", *NODE)
    sound = sounds.noise(MONO, 480 * 1200)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=4800)
    server.wait_for_node("music")
    for times in (1, 2):
        server.kill()
        wait_until(lambda: card.device.output().count(GONE) == times, "the log to say that the server is gone")
        assert player.running(), player.output()
        server.start()
        wait_until(lambda: server.nodes().get("music", {}).get("state") == "running", "the card to play")
        # A server whose session manager is not ready yet may say that there is nothing to play to.
        wait_until(lambda: said(card)[0] == said(card)[1], "the log to say that all is well")
        assert card.device.output().count(GONE) == times, "it is said once"
    recorder = GraphRecorder(server, "speakers", MONO)
    player.finish()
    assert check_end_of(sound, recorder) > 480
    assert card.device.output().count("stream 0: started") == 1, "the stream was started again"


def test_there_is_no_server_at_the_start(make_server, make_card):
    server = make_server(channels=1)
    server.kill()
    card = make_card("music", "-v", *NODE)
    wait_until(lambda: said(card)[0] == 2, "the log to say so, for both streams")
    assert "no server can be reached" in card.device.output()
    sound = sounds.noise(MONO, 480 * 600)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=4800)
    wait_until(lambda: "stream 0: started" in card.device.output(), "the stream to start")
    server.start()
    wait_until(lambda: server.nodes().get("music", {}).get("state") == "running", "the card to play")
    recorder = GraphRecorder(server, "speakers", MONO)
    player.finish()
    assert check_end_of(sound, recorder) > 0
    complaints, returns = said(card)
    # Both streams have complained; the one that captures has not been used since.
    assert returns == complaints - 1, card.device.output()


def test_capture_without_a_server_is_silence_in_time(make_server, make_card):
    """arecord gets as many frames as before, none but silence, and then the graph's again."""
    server = make_server(channels=1)
    card = make_card("music", "-v", *NODE)
    recorder = alsa_tools.Recorder(card.pcm, MONO, period=480, buffer=4800)
    server.kill()
    wait_until(lambda: GONE in card.device.output(), "the log to say that the server is gone")
    silent = recorder.frames()
    recorder.wait_for(silent + 24000)
    server.start()
    wait_until(lambda: server.nodes().get("music-capture", {}).get("state") == "running", "the card to capture")
    sound = sounds.noise(MONO, 12 * 1024)  # whole cycles: of others, the player's last one comes late
    player = GraphPlayer(server, "microphone", sound)
    assert player.wait(20) == 0, player.output()
    heard = recorder.finish()
    found = holes.pieces(sound, heard)
    # The player's first cycles may be over before it is linked.
    assert len(found) == 1 and found[0].end == sound.frames and found[0].frames > 480, found
    assert found[0].recorded >= silent + 24000


def end_it_while_it_plays(card, server, record_property):
    """Kills the device process of a card on `server` that plays; returns the only hole in what is heard."""
    sound = sounds.noise(MONO, 480 * 400)
    recorder = GraphRecorder(server, "speakers", MONO)
    player = alsa_tools.Player(card.pcm, sound.then_silence(4800), period=480, buffer=3840)
    recorder.wait_for(48000)
    card.end_device(signal.SIGKILL)
    player.finish()
    found = holes.pieces(sound, recorder.finish())
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    gaps = holes.holes(found)
    record_property("holes", str(gaps))
    assert len(gaps) == 1, gaps
    return gaps[0]


def test_a_device_process_that_is_killed_while_it_plays(make_server, make_card, record_property):
    """The application hears of nothing; the next process's stream is linked, and goes on in the middle of the sound."""
    server = make_server(channels=1)
    card = make_card("music", *NODE, kind=SupervisedCard)
    hole = end_it_while_it_plays(card, server, record_property)
    assert 0 < hole.length <= LONGEST, hole
    assert "goes on where another process has died; restarts so far: 1" in card.adapter.output()
    assert card.told()["streams"][0]["gaps"] == 1


def test_a_guard_replaces_a_process_while_it_plays(make_server, make_card, record_property):
    """As the units have it: what takes long has been done before."""
    server = make_server(channels=1, quantum=256)
    card = make_card("music", *NODE, kind=RespawnedCard)
    hole = end_it_while_it_plays(card, server, record_property)
    assert 0 < hole.length <= LONGEST_OF_A_GUARD, hole
