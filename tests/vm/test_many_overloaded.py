# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""64 cards, or as many as there are numbers for, play 64 sounds while every CPU is overloaded.

Half of the cards have priority, from who plays to who serves: nothing of theirs is lost, nor late. The
others are not told of an error, and each of their frames arrives; how often they were late is counted.
Runs in a guest with two CPUs. Most kernels have numbers for 32 cards, the one with KCSAN for 80.
"""

import pathlib
import re

import alsa_tools
import programs
import pytest
import sounds
from card import CLASS, Card
from overload import overloaded
from real_card import CARDS
from resources import allowed, measure
from sounds import Layout

pytestmark = [pytest.mark.two_cpus, pytest.mark.time_limit(600)]
LAYOUT = Layout()
# Long enough for the start of others, which have the same priority.
PERIOD, PERIODS = 480, 16
STREAMS = 64
SECONDS = 2
TURNS = 2
# A process keeps some memory for the next sound, each of its threads some of its own: that ends after
# five turns. test_resources watches it for 200.
KEPT = {"device, KiB", "device, mappings"}
PREFERRED = ["chrt", "-f", "60"]


class Zone:
    """A card with its share of the streams, and who plays on them."""

    def __init__(self, number, streams, preferred, folder):
        self.streams, self.preferred = streams, preferred
        self.prefix = PREFERRED if preferred else []
        self.folder = pathlib.Path(folder, f"zone{number}")
        self.folder.mkdir()
        description = self.folder / "card.toml"
        description.write_text(
            "[process]\nrt-priority = 0\n[[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'out.wav'\n"
            f"substreams = {streams}\nformats = ['S16']\nrates = [48000]\nchannels = 2\n"
        )
        self.card = Card(f"zone{number}", "--card", description, prefix=self.prefix).start()
        self.players = []
        self.played = [b""] * streams  # by substream, all turns behind each other, as its WAV file has them

    def play(self, seed):
        frames = SECONDS * LAYOUT.rate // PERIOD * PERIOD
        turn = [sounds.noise(LAYOUT, frames, seed * STREAMS + number) for number in range(self.streams)]
        self.players = [
            alsa_tools.Player(f"{self.card.pcm},0,{number}", sound, PERIOD, PERIOD * PERIODS, prefix=self.prefix)
            for number, sound in enumerate(turn)
        ]
        self.played = [before + sound.data for before, sound in zip(self.played, turn)]

    def finish(self):
        """How many underruns the players had. No one of them was told of an error."""
        for player in self.players:
            assert player.wait(120) == 0, f"{self.card.name}: {player.output()}\n{self.card.report()}"
        found = sum(len(re.findall("underrun", player.output())) for player in self.players)
        for player in self.players:
            player.forget()
        return found

    def heard(self):
        """What lies in its WAV files, one a substream."""
        return [sounds.read_wav(path)[1] for path in self.folder.glob("*.wav")]


def numbers():
    """How many cards this kernel has numbers for: so long are the lists that a sound driver takes."""
    return len(pathlib.Path("/sys/module/snd_aloop/parameters/enable").read_text().split(","))


def grown_too_much(zones, before, after):
    """What has grown between two turns, in words. The kernel's memory is one for all cards, and others take of it for
    a while: the least that was seen in a turn counts."""
    kernel = {name for name in before[0] if name.startswith("kernel")}
    grown = [
        (zone.card.name, name, new[name] - old[name])
        for zone, old, new in zip(zones, before, after)
        for name in old.keys() - kernel - KEPT
    ]
    grown += [
        ("all cards", name, min(new[name] for new in after) - min(old[name] for old in before)) for name in kernel
    ]
    return [f"{whose}: {name} {value}" for whose, name, value in grown if value > allowed(name)]


def test_64_streams_on_all_cards_while_all_cpus_are_overloaded(tmp_path):
    count = min(STREAMS, numbers() - len(CARDS))
    shares = [STREAMS * (number + 1) // count - STREAMS * number // count for number in range(count)]
    zones = [Zone(number, share, number % 2 == 0, tmp_path) for number, share in enumerate(shares)]
    assert len(list(CLASS.iterdir())) == count
    measured = []
    for turn in range(TURNS):
        with overloaded() as load:
            for zone in zones:
                zone.play(turn)
            late = {True: 0, False: 0}
            for zone in zones:
                late[zone.preferred] += zone.finish()
        print(f"{count} cards, {STREAMS} streams, turn {turn + 1}: xruns with priority {late[True]}, without "
              f"{late[False]}; CPUs busy {', '.join(f'{busy:.0%}' for busy in load.busy)}")
        assert min(load.busy) > 0.95, load.busy
        assert late[True] == 0
        wrong = [zone.card.name for zone in zones if sorted(zone.heard()) != sorted(zone.played)]
        assert not wrong
        measured.append([measure(zone.card) for zone in zones])
    assert not grown_too_much(zones, *measured[-2:])
    for zone in zones:
        zone.card.destroy()
    assert list(CLASS.iterdir()) == []
    assert programs.run("aplay", "-l").stdout.count("zone") == 0
