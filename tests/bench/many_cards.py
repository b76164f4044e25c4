# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Many cards that play at the same time: what one of them costs; in the guest.

Each card has its own device process, adapter and player, and its own cable of snd-aloop.
"""

import contextlib
import pathlib
import time

import memory_use
import real_card
import sounds
from cost import COUNTERS
from kernel_counters import Window
from programs import Program
from real_card import RealCard
from sounds import Layout

LAYOUT = Layout()
PERIOD, PERIODS = 480, 16
SETTLE = 2.0  # seconds of sound before the counting
ROOM = 10.0  # more sound than is counted: the last player starts long after the first


def real_cards(count):
    """The ids of as many real cards as `count` cables need."""
    return [f"real{number}" for number in range(-(-count // real_card.SUBDEVICES))]


def cables(count):
    """A cable for each card, those of one real card after the other."""
    size = real_card.SUBDEVICES
    return [RealCard(real_card.CARDS[number // size], number % size) for number in range(count)]


def playing(kind, count, seconds):
    """What each of `count` systems of a kind costs while all of them play."""
    before = memory_use.kernel_bytes()
    with contextlib.ExitStack() as stack:
        cards = [stack.enter_context(kind(cable, name=f"zone{n}")) for n, cable in enumerate(cables(count))]
        players = start_players(cards, seconds + SETTLE + ROOM)
        time.sleep(SETTLE)
        processes = processes_of(cards, players)
        found = count_all(cards, processes, seconds)
        memory = {part: memory_use.process_bytes(pids) / count for part, pids in processes.items()}
        memory["kernel"] = (memory_use.kernel_bytes() - before) / count
        underruns = stop(players)
    played = found.pop("seconds") * LAYOUT.rate / PERIOD * count
    cpu = {part: value / count for part, value in found.pop("cpu").items()}
    return {"cpu": cpu, "memory": memory, "underruns": underruns,
            **{name: total / played for name, total in found.items()}}


def start_players(cards, seconds):
    sound = pathlib.Path("/tmp/many-cards.raw")
    sound.write_bytes(sounds.noise(LAYOUT, int(LAYOUT.rate * seconds)).data)
    options = [*LAYOUT.alsa_options, "--period-size", PERIOD, "--buffer-size", PERIOD * PERIODS]
    return [Program("aplay", "-D", card.pcm, *options, sound) for card in cards]


def stop(players):
    """Ends the players; returns how many underruns they had."""
    for player in players:
        assert player.running(), f"{player}: {player.output()}"
        player.kill()
    return sum(player.output().count("underrun") for player in players)


def processes_of(cards, players):
    processes = {"application": [player.pid for player in players]}
    for card in cards:
        for part, pid in card.processes.items():
            processes.setdefault(part, []).append(pid)
    return processes


def count_all(cards, processes, seconds):
    """CPU in ms per second of all of them together, and what they counted meanwhile."""
    window = Window(processes)
    window.begin()
    before = totals(cards)
    time.sleep(seconds)
    after = totals(cards)
    found = window.end()
    cpu = {part: value / found["seconds"] for part, value in found["cpu_ms"].items()}
    counted = {name: after[name] - before[name] for name in after}
    return {"seconds": found["seconds"], "cpu": cpu, "switches": found["context_switches"], **counted}


def totals(cards):
    if not cards[0].card:
        return {}
    return {name: sum(system.card.counter(attribute) for system in cards) for attribute, name in COUNTERS.items()}
