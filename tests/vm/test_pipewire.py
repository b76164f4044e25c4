# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card in the graph of a real PipeWire server: what is played arrives there, every bit of it."""

import alsa_tools
import pytest
import sound_server
import sounds
from graph_tools import GraphRecorder
from sound_server import SoundServer
from sounds import Layout


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    sound_server.install()


@pytest.fixture
def make_server():
    """Makes a sound server, which ends with the test."""
    servers = []

    def make(**options):
        servers.append(SoundServer(**options))
        return servers[-1]

    yield make
    for server in servers:
        print(server.server.output() if server.server else "", server.manager.output() if server.manager else "")
        server.stop()


NODE = ("--host", "pipewire", "--node-name", "music")


def test_playback_is_exact(make_server, make_card):
    server = make_server()
    card = make_card("music", *NODE, "--role", "Multimedia")
    sound = sounds.noise(Layout(), 48000)
    recorder = GraphRecorder(server, "speakers", sound.layout)
    alsa_tools.play(card.pcm, sound, period=480, buffer=4800)
    result = recorder.compare(sound)
    assert result.exact, str(result)
