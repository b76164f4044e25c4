# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every CPU is overloaded while two cards play: the one that was given priority plays on.

The whole chain of a card has the priority: who plays, and who serves. Runs in a guest with two CPUs,
for what `taskset` says means nothing with one.
"""

import dataclasses
import json
import os
import pathlib
import re

import alsa_tools
import pytest
import sounds
from card import Card
from overload import overloaded
from real_card import RealCard
from sounds import Layout

pytestmark = [pytest.mark.two_cpus, pytest.mark.time_limit(240)]
LAYOUT = Layout()
SECONDS = 2
PERIOD, PERIODS = 240, 4
NARROW = ["--formats", "S16", "--rates", "48000", "--channels", "2", "--controls", "none"]
PREFERRED, OTHER = "navigation", "music"
# Who listens at the far end is no part of what is measured: it goes before everybody.
LISTENER = ["chrt", "-f", "90"]


@dataclasses.dataclass(frozen=True)
class Priority:
    """How the preferred card is preferred."""

    name: str
    prefix: tuple = ()  # before each program of the chain
    options: tuple = ("--rt-priority", "0")  # of its device process
    player: tuple | None = None  # before its player, if that is something else
    exact: bool = False  # whether it has to be so good that nothing is lost


TASKSET, CHRT = ("taskset", "-c", "1"), ("chrt", "-f", "60")
PRIORITIES = [
    Priority("none"),
    Priority("taskset", TASKSET),
    Priority("chrt", CHRT, (), exact=True),
    Priority("taskset and chrt", TASKSET + CHRT, (), exact=True),
    Priority("its own options", (), ("--cpus", "1", "--rt-priority", "60"), TASKSET + CHRT, exact=True),
]


class Chain:
    """A card with its player, its device process and who listens to the real card."""

    def __init__(self, name, real, priority, seed):
        self.real = RealCard(real)
        self.player_prefix = priority.prefix if priority.player is None else priority.player
        host = ["--host", "alsa", "--playback-device", self.real.device, *priority.options, *NARROW]
        self.card = Card(name, *host, prefix=priority.prefix).start()
        self.sound = sounds.noise(LAYOUT, SECONDS * LAYOUT.rate // PERIOD * PERIOD, seed)
        self.recorder = self.player = None

    def listen(self):
        self.recorder = alsa_tools.Recorder(self.real.far_end, LAYOUT, prefix=LISTENER)

    def play(self):
        self.player = alsa_tools.Player(self.card.pcm, self.sound, PERIOD, PERIOD * PERIODS, prefix=self.player_prefix)

    def result(self):
        """What became of the sound; the player may have failed."""
        status = self.player.wait(60)
        compared = self.recorder.compare(self.sound)
        device = self.card.device
        self.card.destroy()
        return {
            "card": self.card.name,
            "exact": compared.exact,
            "first difference": compared.first_difference,
            "xruns": len(re.findall("underrun", self.player.output())),
            "gaps": sum(map(int, re.findall(r"(\d+) gaps", device.output()))),
            "exit status": status,
        }


def play_both(priority):
    """Two cards play while every CPU is overloaded. Returns the results, and how busy each CPU was."""
    chains = [Chain(PREFERRED, "real0", priority, 1), Chain(OTHER, "real1", PRIORITIES[0], 2)]
    for chain in chains:
        chain.listen()
    with overloaded() as load:
        for chain in chains:
            chain.play()
        for chain in chains:
            chain.player.wait(60)
    return [chain.result() for chain in chains], load.busy


@pytest.fixture(scope="module")
def table():
    """Collects the results; prints them at the end, and leaves them in the folder of the report."""
    rows = []
    yield rows
    columns = ["priority", "card", "every frame", "xruns", "gaps"]
    text = [(row["priority"], row["card"], "yes" if row["exact"] else "no", str(row["xruns"]), str(row["gaps"]))
            for row in rows]
    print()
    widths = [max(map(len, column)) for column in zip(columns, *text)]
    for row in [columns, *text]:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    folder = os.environ.get("VIRTIO_LOOPBACK_REPORT")
    if folder:
        pathlib.Path(folder, "overload.json").write_text(json.dumps(rows, indent=1))


@pytest.mark.parametrize("priority", PRIORITIES, ids=lambda priority: priority.name.replace(" ", "-"))
def test_the_preferred_card_plays_on(priority, table):
    results, busy = play_both(priority)
    table += [{"priority": priority.name if result["card"] == PREFERRED else "none", **result} for result in results]
    print(*results, sep="\n")
    # Each CPU had more to do than it could.
    assert min(busy) > 0.95, busy
    preferred = results[0]
    if priority.exact:
        assert preferred["exact"] and not preferred["xruns"] and not preferred["gaps"], preferred
        assert preferred["exit status"] == 0, preferred
