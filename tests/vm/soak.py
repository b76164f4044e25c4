# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Four cards play and record while random processes of theirs are killed; counts what became of the sound."""

import collections
import itertools
import pathlib
import random
import re
import signal
import time

import alsa_tools
import holes
import sounds
from card import CLASS
from programs import wait_until
from real_card import RealCard
from sounds import Layout, Sound
from survivors import RespawnedCard, ServedCard, SupervisedCard
from test_resources import kernel_kib

LAYOUT = Layout()
PERIOD, BUFFER = 960, 7680
ROUND = 12  # seconds of sound
KILLS_END = 9  # no kill later in a round, so that what follows the last one is heard
PAUSE = 1.5  # seconds between two kills of one card: the recorder's buffer, by which an echo is known, is one long
DEVICE_ENDS = {
    "device process killed": lambda card: card.end_device(signal.SIGKILL),
    "device process aborted": lambda card: card.end_device(signal.SIGABRT),
}
DEVICE_STOPS = {"device process stopped": lambda card: card.end_device(signal.SIGSTOP)}
ADAPTER_ENDS = {
    "adapter killed": lambda card: card.end_adapter(signal.SIGKILL),
    "adapter ended and started": lambda card: card.end_adapter(signal.SIGTERM),
}
BOTH_END = {"both killed": lambda card: card.end_both()}
FAULTS = {
    SupervisedCard: {**DEVICE_ENDS, **DEVICE_STOPS, **BOTH_END},
    ServedCard: {**DEVICE_ENDS, **ADAPTER_ENDS, **BOTH_END},
    RespawnedCard: {**DEVICE_ENDS, **DEVICE_STOPS, **ADAPTER_ENDS},
}
PLACES = [
    ("music", SupervisedCard, RealCard("real0", 0)),
    ("phone", SupervisedCard, RealCard("real1", 0)),
    ("navigation", ServedCard, RealCard("real0", 1)),
    ("alerts", RespawnedCard, RealCard("real1", 1)),
]


class Line:
    """A sound on its way: who plays it, who records it, and what became of it."""

    def __init__(self, name, source, sink, seed, echo=None):
        self.name = name
        self.sound = sounds.noise(LAYOUT, ROUND * LAYOUT.rate // PERIOD * PERIOD, seed)
        # At the far end of a real card is a buffer that no fault could empty.
        sizes = {"period": PERIOD, "buffer": BUFFER}
        self.recorder = alsa_tools.Recorder(sink, LAYOUT, **(sizes if echo else {}))
        self.player = alsa_tools.Player(source, self.sound.then_silence(4800), **sizes)
        self.echo = echo or self.recorder.buffer

    def finish(self, counts, errors):
        """Adds to the counts, and to the errors that the two applications have seen."""
        status = self.player.wait(ROUND + 60)
        said = self.player.output()
        if status or "underrun" in said:
            errors.append(f"{self.name}: aplay: status {status}: {said[-300:]}")
        try:
            heard = self.recorder.finish()
        except AssertionError as error:
            errors.append(f"{self.name}: arecord: {str(error)[-300:]}")
        else:
            self._count(heard, counts)
        self.player.forget()
        self.recorder.forget()

    def _count(self, heard, counts):
        counts["frames played"] += self.sound.frames
        try:
            found = holes.pieces(self.sound, Sound(LAYOUT, heard.data), self.echo)
        except AssertionError as error:
            counts["repeated or out of order"] += 1
            print(f"{self.name}: {error}", flush=True)
            return
        gaps = holes.holes(found)
        lost = sum(gap.missing for gap in gaps)
        lost += found[0].start + self.sound.frames - found[-1].end if found else self.sound.frames
        counts["frames lost"] += lost
        counts["holes"] += len(gaps)
        counts["longest hole, frames"] = max([counts["longest hole, frames"], *(gap.length for gap in gaps)])


class Soak:
    """The four cards, and what they went through."""

    def __init__(self, make_card, seed):
        self.random = random.Random(seed)
        self.faults = collections.Counter()
        self.counts = collections.Counter({"repeated or out of order": 0, "frames lost": 0, "holes": 0})
        self.errors = []
        self.seeds = itertools.count(seed)
        self.cards = [
            (make_card(name, "--host", "alsa", "--playback-device", real.device, "--capture-device", real.device,
                       kind=kind), real)
            for name, kind, real in PLACES
        ]

    @property
    def kills(self):
        return self.faults.total()

    def round(self, most):
        """Plays and records one sound on each card; at most so many kills happen meanwhile."""
        lines = []
        for card, real in self.cards:
            lines.append(Line(f"{card.name}, capture", real.far_end, card.pcm, next(self.seeds), echo=9600))
            lines.append(Line(f"{card.name}, playback", card.pcm, real.far_end, next(self.seeds)))
        begun = time.monotonic()
        last = dict.fromkeys((card for card, _ in self.cards), begun)
        while most > 0 and time.monotonic() < begun + KILLS_END:
            time.sleep(self.random.uniform(0.05, 0.5))
            ripe = [card for card, when in last.items() if time.monotonic() > when + PAUSE]
            if ripe:
                card = self.random.choice(ripe)
                self.hit(card)
                last[card] = time.monotonic()
                most -= 1
        for line in lines:
            line.finish(self.counts, self.errors)

    def hit(self, card):
        faults = FAULTS[type(card)]
        name = self.random.choice(sorted(faults))
        self.faults[name] += 1
        faults[name](card)

    def measure(self):
        """What is in use while nobody plays, each device process being a fresh one."""
        for card, _ in self.cards:
            card.end_device(signal.SIGKILL)
            wait_until(lambda card=card: card.counter("zero_copy_pages") == 0, f"{card.name}: pages to be let go")
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        lines = pathlib.Path("/proc/meminfo").read_text()
        kinds = {**kernel_kib(), "shared memory": int(re.search(r"Shmem: +(\d+)", lines)[1])}
        used = {f"kernel's {kind}, KiB": kib for kind, kib in kinds.items()}
        for card, _ in self.cards:
            used[f"{card.name}: adapter's files"] = card.adapter.files()
            used[f"{card.name}: adapter's memory, KiB"] = card.adapter.resident_kib()
            if isinstance(card, RespawnedCard):
                used[f"{card.name}: guard's memory, KiB"] = card.device.resident_kib()
            used[f"{card.name}: bounce slots, bytes"] = card.counter("bounce_used")
        used["devices"] = len(list(CLASS.iterdir()))
        return used
