# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card in the graph of a real PipeWire server, at the graph's rate: what is played arrives there, and
what comes from there is captured, every bit of it."""

import json

import alsa_tools
import programs
import pytest
import sounds
from graph_tools import GraphPlayer, GraphRecorder
from pcm import Pcm
from real_card import RealCard
from sound_server import alsa_sink
from sounds import Layout
from wave_compare import compare

NODE = ("--host", "pipewire", "--node-name", "music")


def exact_24_bits(sound):
    """The graph's floats hold 24 bits: of 32, the lowest 8 are silenced."""
    if sound.layout.format != "S32_LE":
        return sound
    data = bytearray(sound.data)
    data[::4] = bytes(len(data) // 4)
    return sounds.Sound(sound.layout, bytes(data))


def loud(frames, seed=1):
    """Sound without a silent frame."""
    return sounds.noise(Layout(), frames, seed).data.replace(b"\0", b"\1")


def heard_of(recorder):
    """What is recorded but for silent frames."""
    data, frame = recorder.finish().data, Layout().frame_bytes
    frames = (data[at : at + frame] for at in range(0, len(data), frame))
    return b"".join(found for found in frames if found != bytes(frame))


@pytest.mark.parametrize(
    "layout, period, periods",
    [
        (Layout(), 480, 10),
        (Layout(), 1024, 2),
        (Layout("U8", 2), 1200, 4),
        (Layout("S24_LE", 2), 960, 4),
        (Layout("S24_3LE", 2), 1024, 4),
        (Layout("S32_LE", 2), 480, 8),
        (Layout("S16_LE", 6), 1024, 4),
        (Layout("S16_LE", 1), 480, 16),
        (Layout("S16_LE", 2, 44100), 441, 16),
        # Shorter than a cycle of the graph, which has 1024 frames.
        (Layout(), 240, 4),
    ],
    ids=lambda value: "-".join(map(str, value.__dict__.values())) if isinstance(value, Layout) else str(value),
)
def test_playback_is_exact(make_server, make_card, layout, period, periods):
    server = make_server(rate=layout.rate, channels=layout.channels)
    card = make_card("music", *NODE)
    sound = exact_24_bits(sounds.noise(layout, 40 * 1024 // period * period))
    recorder = GraphRecorder(server, "speakers", layout)
    alsa_tools.play(card.pcm, sound, period=period, buffer=period * periods)
    result = recorder.compare(sound)
    assert result.exact, str(result)
    assert "gaps" not in card.device.output(), card.device.output()


# The driver has all of it back before the graph has taken it, and stops.
@pytest.mark.parametrize("frames, period, periods", [(1200, 240, 4), (480, 480, 2)])
def test_a_sound_is_heard_to_its_end_if_the_buffer_is_shorter_than_a_cycle(
    make_server, make_card, frames, period, periods
):
    server = make_server()
    card = make_card("music", *NODE)
    sound = sounds.noise(Layout(), frames)
    recorder = GraphRecorder(server, "speakers", sound.layout)
    alsa_tools.play(card.pcm, sound, period=period, buffer=period * periods)
    result = recorder.compare(sound)
    assert result.exact, str(result)


def test_a_sound_is_heard_to_its_end_if_another_layout_comes_right_behind_it(make_server, make_card):
    server = make_server(quantum=2048)
    card = make_card("music", *NODE)
    recorder = GraphRecorder(server, "speakers", Layout())
    in_turn = [loud(960 * 10, seed) for seed in range(6)]
    for number, sound in enumerate(in_turn):
        with Pcm(card.pcm, (480, 240)[number % 2], 960) as pcm:
            pcm.write(sound)
            assert pcm.drain() == 0
    assert heard_of(recorder) == b"".join(in_turn)


@pytest.mark.parametrize("quantum", [256, 1024, 2048])
def test_the_cycle_of_the_graph_is_whatever_it_is(make_server, make_card, quantum):
    server = make_server(quantum=quantum)
    card = make_card("music", *NODE)
    sound = sounds.noise(Layout(), 48000)
    recorder = GraphRecorder(server, "speakers", sound.layout)
    alsa_tools.play(card.pcm, sound, period=480, buffer=3840)
    result = recorder.compare(sound)
    assert result.exact, str(result)


# The node stays in the graph for a while: START finds it there, with room for less than the driver has.
@pytest.mark.skipif(alsa_tools.PLAYS_ON, reason="this kernel's driver hands the whole buffer over")
def test_pauses_that_are_over_at_once_lose_and_repeat_nothing(make_server, make_card):
    server = make_server()
    card = make_card("music", *NODE)
    recorder = GraphRecorder(server, "speakers", Layout())
    sound = loud(480 * 60)
    half = len(sound) // 2
    with Pcm(card.pcm, 480, 3840) as pcm:
        pcm.write(sound[:half])
        for _ in range(5):
            pcm.pause(True)
            pcm.pause(False)
        pcm.write(sound[half:])
        assert pcm.drain() == 0
    assert heard_of(recorder) == sound


@pytest.mark.skipif(alsa_tools.PLAYS_ON, reason="this kernel's driver hands the whole buffer over")
def test_a_sound_right_behind_one_that_was_dropped_is_heard(make_server, make_card):
    server = make_server()
    card = make_card("music", *NODE)
    recorder = GraphRecorder(server, "speakers", Layout())
    first, second = loud(480 * 30), loud(480 * 30, seed=2)
    with Pcm(card.pcm, 480, 3840) as pcm:
        pcm.write(first)
        pcm.drop()
        pcm.prepare()
        pcm.write(second)
        assert pcm.drain() == 0
    heard = heard_of(recorder)
    rest = len(heard) - len(second)
    assert 0 < rest < len(first), f"{rest} bytes of the sound that was dropped"
    assert heard == first[:rest] + second


@pytest.mark.parametrize(
    "layout, period, periods",
    [(Layout(), 480, 10), (Layout("U8", 2), 1200, 4), (Layout("S24_3LE", 2), 1024, 4), (Layout(), 240, 4)],
    ids=lambda value: "-".join(map(str, value.__dict__.values())) if isinstance(value, Layout) else str(value),
)
def test_capture_is_exact(make_server, make_card, layout, period, periods):
    server = make_server(channels=layout.channels)
    card = make_card("music", *NODE)
    sound = sounds.noise(layout, 30 * 1024)
    recorder = alsa_tools.Recorder(card.pcm, layout, period=period, buffer=period * periods)
    player = GraphPlayer(server, "microphone", sound)
    assert player.wait(20) == 0, player.output()
    received = recorder.finish()
    result = compare(sound.data, received.data, layout.frame_bytes, layout.silent_byte)
    assert result.exact, str(result)


def test_the_node_is_what_the_options_say(make_server, make_card):
    server = make_server()
    card = make_card(
        "music", *NODE, "--role", "navigation", "--latency", "512/48000", "--property", "x.colour=blue",
        "--property", "session.suspend-timeout-seconds=0",
    )
    player = alsa_tools.Player(card.pcm, sounds.noise(Layout(), 48000), period=480, buffer=4800)
    nodes = server.wait_for_node("music")
    found = nodes["music"]
    wanted = {
        "media.role": "Navigation", "node.latency": "512/48000", "node.rate": "1/48000", "media.type": "Audio",
        "media.category": "Playback", "x.colour": "blue", "session.suspend-timeout-seconds": 0,
        "application.name": "vhost-user-sound", "node.description": "stream 0",
        "media.class": "Stream/Output/Audio",
    }
    assert {name: found.get(name) for name in wanted} == wanted, json.dumps(found, indent=1)
    assert "target.object" not in found
    player.finish()
    # A policy that lets others wait for the card's sound does so while there is any.
    server.wait_until_gone("music")


@pytest.mark.kernel_may_say("failed to send I/O message")
def test_a_card_that_goes_while_it_plays_leaves_the_graph(make_server, make_card):
    """Its device process stays; a policy would let others wait for a sound that nobody makes."""
    server = make_server()
    card = make_card("music", *NODE)
    player = alsa_tools.Player(card.pcm, sounds.noise(Layout(), 48000 * 60), period=480, buffer=4800)
    server.wait_for_node("music")
    programs.run(programs.path_of("virtio-loopback"), "destroy", "music")
    assert player.wait(20) != 0
    server.wait_until_gone("music")
    assert card.device.running(), card.device.output()


def test_without_a_latency_the_drivers_period_is_the_graphs_cycle(make_server, make_card):
    server = make_server()
    card = make_card("music", *NODE)
    player = alsa_tools.Player(card.pcm, sounds.noise(Layout(), 24000), period=600, buffer=4800)
    assert server.wait_for_node("music")["music"]["node.latency"] == "600/48000"
    player.finish()


def test_a_target_is_warned_about_and_found(make_server, make_card):
    server = make_server()
    card = make_card("music", *NODE, "--role", "Navigation", "--target", "speakers")
    warning = "target speakers leads it past the server's policy: its role has no effect"
    assert warning in card.device.output()
    recorder = GraphRecorder(server, "speakers", Layout())
    sound = sounds.noise(Layout(), 24000)
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=4800)
    assert server.wait_for_node("music")["music"]["target.object"] == "speakers"
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)


def mean_delay(server, device, sink):
    """What an application that keeps its buffer full reads as delay while it plays to `sink`, in the
    mean, in frames."""
    sound = sounds.noise(Layout(), 48000)
    found = []
    with Pcm(device, 480, 4800) as pcm:
        pcm.write(sound.data[: 4800 * 4])
        # Nothing moves until there is a link.
        server.wait_for_node("music")
        server.link("music", sink)
        for start in range(80):
            pcm.write(sound.data[start * 480 * 4 :][: 480 * 4])
            found.append(pcm.avail_delay()[1])
        pcm.drop()
    server.wait_until_gone("music")
    return sum(found[20:]) / 60


def test_the_delay_is_that_of_the_stream_in_the_graph(make_server, make_card, real):
    """Two sinks on real cards, of which one is said to be 100 ms further from the ear."""
    sinks = [alsa_sink("near", real.device, 0), alsa_sink("far", RealCard("real1").device, 100_000_000)]
    server = make_server(policy=False, more=sinks)
    card = make_card("music", *NODE, "--on-cork", "hold", "--property", "adapter.auto-port-config={ mode = dsp }")
    near, far = (mean_delay(server, card.pcm, sink) for sink in ("near", "far"))
    # The rest of the way is the same, but for where in a cycle the moments are.
    assert 4800 - 1024 < far - near < 4800 + 1024, f"{near} {far}"
    assert near > 4800, "the application's own buffer is a part of it"
