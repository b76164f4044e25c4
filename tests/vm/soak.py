# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Four cards play and record while what they live on is killed at random; counts what became of the sound."""

import collections
import contextlib
import itertools
import os
import pathlib
import random
import re
import signal
import time

import alsa_tools
import holes
import programs
import sounds
from card import CLASS
from graph_tools import GraphPlayer, GraphRecorder
from programs import pids_of, wait_until
from real_card import RealCard
from resources import kernel_kib
from sounds import Layout
from survivors import RespawnedCard, ServedCard, SupervisedCard, stop_for

PERIOD, BUFFER = 960, 7680
WHOLE = PERIOD * 16  # frames that are periods as well as a graph's cycles of 1024, all of them whole
FRAMES = 37 * WHOLE  # of a sound
CHECK = 3 * WHOLE  # of a short one
ROUND = FRAMES / Layout().rate  # seconds of sound
LONGEST = 9600  # frames of a hole, twice what ALSA takes for the end of a stream
KILLS_END = 9  # no kill later in a round, so that what follows the last one is heard
PAUSE = 1.5  # seconds between two kills of one card: the recorder's buffer, by which an echo is known, is one long
RUN = pathlib.Path("/run/virtio-loopback")
DEVICE_ENDS = {
    "device process killed": lambda card: card.end_device(signal.SIGKILL),
    "device process aborted": lambda card: card.end_device(signal.SIGABRT),
}
DEVICE_REPLACED = {
    "device process stopped": lambda card: card.end_device(signal.SIGSTOP),
    "device process chosen for its memory": lambda card: card.take_memory_of_device(),
}
GUARD_ENDS = {"guard killed": lambda card: card.end_guard()}
ADAPTER_ENDS = {
    "adapter killed": lambda card: card.end_adapter(signal.SIGKILL),
    "adapter ended and started": lambda card: card.end_adapter(signal.SIGTERM),
}
ADAPTER_STOPS = {"adapter stopped for 5 s": lambda card: stop_for(card, 5)}
BOTH_END = {"both killed": lambda card: card.end_both()}
FAULTS = {
    SupervisedCard: {**DEVICE_ENDS, **DEVICE_REPLACED, **ADAPTER_STOPS, **BOTH_END},
    ServedCard: {**DEVICE_ENDS, **ADAPTER_ENDS, **ADAPTER_STOPS, **BOTH_END},
    RespawnedCard: {**DEVICE_ENDS, **DEVICE_REPLACED, **GUARD_ENDS, **ADAPTER_ENDS, **ADAPTER_STOPS},
}
# Of which not a frame is lost.
UNHEARD = {**ADAPTER_ENDS, **ADAPTER_STOPS}


def counted_files():
    """What the kernel says. It counts on each CPU, and moves this figure by some dozens when there are as many."""
    return int(pathlib.Path("/proc/sys/fs/file-nr").read_text().split()[0])


def open_files():
    """In the whole guest, but for this process, when udev has done with the cards that come and go."""
    programs.run("udevadm", "settle")
    wait_until(lambda: not pids_of("(udev-worker)"), "udev's workers to be gone")
    with contextlib.ExitStack() as more:
        before = counted_files()
        # So the figure is right when it moves.
        while (found := counted_files()) == before:
            more.enter_context(open("/dev/null"))
        return found - len(os.listdir("/proc/self/fd"))


class Wire:
    """A real card, which its virtual one plays on and records from."""

    name = "real card"
    layout = Layout()
    echo = 9600  # where a virtual card records from it

    def __init__(self, real, unplug=False):
        self.real = real
        self.was_away = False
        self.fault = "real card unplugged and plugged in" if unplug else None
        self.host = ("alsa", "--playback-device", real.device, "--capture-device", real.device)

    def player(self, sound):
        return alsa_tools.Player(self.real.far_end, sound.then_silence(4800), period=PERIOD, buffer=BUFFER)

    def recorder(self):
        # A buffer that no fault could empty.
        return alsa_tools.Recorder(self.real.far_end, self.layout)

    def go_away(self, seconds):
        self.was_away = True
        self.real.unplug()
        time.sleep(seconds)
        self.real.plug_in()


class Graph:
    """A sound server, whose graph the virtual card is in."""

    name = "sound server"
    layout = Layout(channels=1)  # two would be linked one after another
    host = ("pipewire", "--node-name", "phone")
    echo = 0
    fault = "sound server killed"

    def __init__(self, server):
        self.server = server
        self.was_away = False

    def player(self, sound):
        return GraphPlayer(self.server, "microphone", sound)

    def recorder(self):
        return GraphRecorder(self.server, "speakers", self.layout)

    def go_away(self, seconds):
        self.was_away = True
        self.server.kill()
        time.sleep(seconds)
        self.server.start()


class Line:
    """A sound on its way: who plays it, who records it, and what became of it."""

    def __init__(self, card, place, seed, frames, played):
        self.card, self.place, self.played = card.name, place, played
        self.name = f"{card.name}, {'playback' if played else 'capture'}"
        self.sound = sounds.noise(place.layout, frames, seed)
        if played:
            self.recorder = place.recorder()
            self.player = alsa_tools.Player(card.pcm, self.sound.then_silence(4800), period=PERIOD, buffer=BUFFER)
            self.echo = self.recorder.buffer
        else:
            self.recorder = alsa_tools.Recorder(card.pcm, place.layout, period=PERIOD, buffer=BUFFER)
            self.player = place.player(self.sound)
            self.echo = place.echo

    @property
    def cut(self):
        """Whether the far end has gone, and its program there with it."""
        return self.place.was_away

    def finish(self, faults, counts, errors):
        """Adds to the counts, and to the errors: of the two applications, and of sound that does not come back.

        `faults`: how many its card went through meanwhile that may be heard.
        """
        status = self.player.wait(ROUND + 60)
        said = self.player.output()
        # Whose far end has gone, ends there with an error; the application at the virtual card may not.
        if (status or "underrun" in said) and (self.played or not self.cut):
            errors.append(f"{self.name}: player: status {status}: {said[-300:]}")
        try:
            self._count(self._heard(), faults, counts)
        except AssertionError as error:
            errors.append(f"{self.name}: recorder: {str(error)[-300:]}")
        self.player.forget()
        self.recorder.forget()

    def _heard(self):
        if self.cut and self.played:
            self.recorder.kill()
            return self.recorder.recorded()
        return self.recorder.finish()

    def _count(self, heard, faults, counts):
        try:
            found = holes.pieces(self.sound, heard, self.echo)
        except AssertionError as error:
            counts["repeated or out of order"] += 1
            print(f"{self.name}: {error}", flush=True)
            return
        gaps = holes.holes(found)
        assert found or self.cut, "nothing is heard"
        end = found[-1].end if found else 0
        frames = end if self.cut else self.sound.frames
        assert end == frames, f"silent from frame {end} of {frames} on"
        lost = frames - sum(piece.frames for piece in found)
        assert faults or not lost, f"nothing has happened, and this is heard: {found}"
        # A fault may be heard twice: as it comes, and as the next process finds the beat of its card.
        assert len(gaps) <= 2 * faults, f"{len(gaps)} holes from {faults} faults: {gaps}"
        assert all(gap.length <= LONGEST for gap in gaps), f"a hole too long: {gaps}"
        # What had been taken over and not been heard yet may go, too.
        assert all(gap.missing <= gap.length + BUFFER for gap in gaps), f"more is missing than there are holes: {gaps}"
        counts["frames played"] += frames
        counts["frames lost"] += lost
        counts["holes"] += len(gaps)
        longest = f"longest hole, {self.place.name}, frames"
        counts[longest] = max([counts[longest], *(gap.length for gap in gaps)])


class Soak:
    """The four cards, and what they went through."""

    def __init__(self, make_card, server, seed):
        places = [
            ("music", SupervisedCard, Wire(RealCard("real0", 0))),
            ("navigation", ServedCard, Wire(RealCard("real0", 1))),
            ("alerts", RespawnedCard, Wire(RealCard("real1", 0), unplug=True)),
            ("phone", SupervisedCard, Graph(server)),
        ]
        self.random = random.Random(seed)
        self.faults = collections.Counter()
        self.counts = collections.Counter({"repeated or out of order": 0, "frames lost": 0, "holes": 0})
        self.errors = []
        self.seeds = itertools.count(seed)
        self.cards = {make_card(name, "--host", *place.host, kind=kind): place for name, kind, place in places}

    @property
    def kills(self):
        return self.faults.total()

    def round(self, most):
        """Plays and records one sound on each card; at most so many faults happen meanwhile."""
        begun = time.monotonic()
        lines = [line for card in self.cards for line in self._lines(card, FRAMES)]
        last = dict.fromkeys(self.cards, begun)
        faults = collections.Counter()
        while most > 0 and time.monotonic() < begun + KILLS_END:
            time.sleep(self.random.uniform(0.05, 0.5))
            ripe = [card for card, when in last.items() if time.monotonic() > when + PAUSE]
            if ripe:
                card, fault = self._choose(ripe)
                self.faults[fault] += 1
                self._faults(card)[fault](card)
                last[card] = time.monotonic()
                faults[card.name] += fault not in UNHEARD
                most -= 1
        for line in lines:
            line.finish(faults[line.card], self.counts, self.errors)
        # What has become of a sound is not known where its far end has gone: the next one arrives whole.
        for card in [card for card, place in self.cards.items() if place.was_away]:
            for line in self._lines(card, CHECK):
                line.finish(0, self.counts, self.errors)

    def _lines(self, card, frames):
        place = self.cards[card]
        place.was_away = False
        return [
            Line(card, place, next(self.seeds), frames, played=False),
            Line(card, place, next(self.seeds), frames, played=True),
        ]

    def _faults(self, card):
        """All that may happen to a card."""
        place = self.cards[card]
        of_its_place = {place.fault: lambda _: place.go_away(self.random.uniform(0.1, 1))} if place.fault else {}
        return {**FAULTS[type(card)], **of_its_place}

    def _choose(self, cards):
        """One of the cards, and one of its faults that have been rare so far: so a few kills have them all."""
        choice = [(card, fault) for card in cards for fault in sorted(self._faults(card))]
        fewest = min(self.faults[fault] for _, fault in choice)
        return self.random.choice([(card, fault) for card, fault in choice if self.faults[fault] == fewest])

    def end(self):
        """Takes the cards down."""
        for card in self.cards:
            card.destroy()

    def measure(self):
        """What is in use while nobody plays, each device process being a fresh one."""
        for card in self.cards:
            card.end_device(signal.SIGKILL)
            wait_until(lambda card=card: card.counter("zero_copy_pages") == 0, f"{card.name}: pages to be let go")
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        lines = pathlib.Path("/proc/meminfo").read_text()
        kinds = {**kernel_kib(), "shared memory": int(re.search(r"Shmem: +(\d+)", lines)[1])}
        used = {f"kernel's {kind}, KiB": kib for kind, kib in kinds.items()}
        for card in self.cards:
            used[f"{card.name}: adapter's files"] = card.adapter.files()
            used[f"{card.name}: adapter's memory, KiB"] = card.adapter.resident_kib()
            if isinstance(card, RespawnedCard):
                used[f"{card.name}: guard's files"] = card.device.files()
                used[f"{card.name}: guard's memory, KiB"] = card.device.resident_kib()
            used[f"{card.name}: bounce slots, bytes"] = card.counter("bounce_used")
        used["devices"] = len(list(CLASS.iterdir()))
        used["processes"] = sum(len(pids_of(name)) for name in ("virtio-loopback", "vhost-user-sound"))
        used["files in /run/virtio-loopback"] = len(list(RUN.iterdir()))
        return used
