# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Whatever a device process writes, through every file that it holds and at every offset, stays in its own
card: before, during and after a stream, when the application has freed its buffers, when the driver has let go of
them, and when the card is gone.
"""

import contextlib
import fcntl
import functools
import mmap
import os
import random

import alsa_tools
import pytest
import sounds
from neighbour import Neighbour
from pcm import CAPTURE, Pcm
from programs import wait_until
from reach import PAGE, Reach, pin
from real_card import RealCard
from sounds import Layout
from survivors import RespawnedCard, SupervisedCard

PERIOD, BUFFER = 1024, 4096
QUEUES, QUEUE_SIZE = 4, 1024
# Descriptors and available ring, the driver's part of each queue.
DRIVER_PAGES = QUEUES * -(-(16 * QUEUE_SIZE + 6 + 2 * QUEUE_SIZE) // PAGE)
# The memory file, and the process's own note of what it is serving.
OWN_FILES = ("/virtio-loopback (deleted)", "music.inflight")
# virtio_snd, of a device whose answers are noise.
pytestmark = pytest.mark.kernel_may_say(r"virtio_?snd|virtio\d+")


class Canary:
    """Memory of somebody else, taken while others give theirs back: the kernel hands out first what was
    freed last."""

    PAGES = 32 * 1024
    PIPES = 32  # of a block each

    def __init__(self):
        self.page = random.Random(1).randbytes(PAGE)
        self._memory = mmap.mmap(-1, self.PAGES * PAGE)
        self._block = self.page * 256
        self._blocks = range(0, self.PAGES * PAGE, len(self._block))
        # The kernel's own pages, and the buffers of sound among them, are of another kind than those of processes.
        self._pipes = []

    def settle(self):
        for at in self._blocks:
            self._memory[at : at + len(self._block)] = self._block
        for _ in range(self.PIPES):
            reader, writer = os.pipe()
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(self._block))
            os.write(writer, self._block)
            self._pipes.append((reader, writer))

    def alive(self):
        return all(self._memory[at : at + len(self._block)] == self._block for at in self._blocks)

    def close(self):
        """It has to be alive to the end."""
        assert self.alive(), "a page of another process was written"
        self._memory.close()
        for reader, writer in self._pipes:
            assert os.read(reader, len(self._block)) == self._block, "a page of the kernel's was written"
            os.close(reader)
            os.close(writer)


@pytest.fixture
def reach_of():
    """Gets hold of all that a device process can reach; lets go of it with the test."""
    held = []

    def take(pid):
        held.append(Reach(pid))
        return held[-1]

    yield take
    for reach in held:
        reach.close()


@contextlib.contextmanager
def nothing_open(card):
    yield


@contextlib.contextmanager
def playing_and_recording(card, period=PERIOD, buffer=BUFFER):
    sound = sounds.noise(Layout(), 30 * 48000, seed=9)
    recorder = alsa_tools.Recorder(card.pcm, Layout(), period=period, buffer=buffer)
    player = alsa_tools.Player(card.pcm, sound, period=period, buffer=buffer)
    # Both directions: two buffers' pages.
    pages = 2 * -(-buffer * Layout().frame_bytes // PAGE)
    wait_until(lambda: card.counter("zero_copy_pages") >= pages, "the pages of both sounds to be mapped")
    yield
    player.kill()
    recorder.kill()


@contextlib.contextmanager
def stopped_with_its_buffers(card):
    with Pcm(card.pcm, PERIOD, BUFFER) as player, Pcm(card.pcm, PERIOD, BUFFER, direction=CAPTURE) as recorder:
        recorder.start()
        recorder.read(PERIOD)
        recorder.drop()
        player.write(sounds.noise(Layout(), 2 * BUFFER, seed=9).data)
        player.drop()
        yield


@contextlib.contextmanager
def let_go(card):
    """The driver keeps the pages of a sound for some seconds, in case it comes again."""
    wait_until(lambda: card.counter("zero_copy_pages") == 0, "the pages to be let go")
    yield


# The last page of each buffer has 512 bytes more than are sound.
a_part_of_a_page = functools.partial(playing_and_recording, period=480, buffer=1920)
# What the application does while the process gets hold of its files, and while it makes use of them.
STAGES = {
    "before a stream": (nothing_open, nothing_open),
    "during one": (playing_and_recording, playing_and_recording),
    "during one that ends within a page": (a_part_of_a_page, a_part_of_a_page),
    "after one": (playing_and_recording, stopped_with_its_buffers),
    "with the buffers freed": (playing_and_recording, nothing_open),
    "with the buffers let go": (playing_and_recording, let_go),
    "with the card gone": (playing_and_recording, None),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_device_process_writes_stays_in_its_card(make_card, reach_of, stage):
    card = make_card("music", "--host", "null")
    attack(make_card, card, reach_of, lambda: card.device.pid, *STAGES[stage])


@pytest.mark.parametrize("kind", [SupervisedCard, RespawnedCard])
def test_what_one_writes_that_another_has_started_and_that_holds_a_real_card(make_card, real, reach_of, kind):
    """It might have inherited files, of an adapter or of a guard."""
    host = ("--host", "alsa", "--playback-device", real.device, "--capture-device", real.device)
    card = make_card("music", *host, kind=kind)
    attack(make_card, card, reach_of, card.device_pid, playing_and_recording, playing_and_recording)


def attack(make_card, card, reach_of, device_pid, before, now):
    """Takes hold of all that a device process has open while `before` goes on, and writes over all of it during
    `now`, while the card next door plays; None: when the card has gone."""
    neighbour = Neighbour(make_card)
    canary = Canary()
    scribble = random.Random(2).randbytes(PAGE)
    with before(card):
        reach = reach_of(device_pid())
        assert all(name.endswith(OWN_FILES) for name, _ in reach.mapped), reach.mapped
        assert not reach.strange()
        # Every page is in the page table of a process when the kernel takes it away.
        reach.read()
    if now is None:
        card.destroy()

    def scribble_everywhere():
        canary.settle()
        held = reach.read()
        assert canary.page not in held, "a page of somebody else can be read"
        taken, refused = reach.write(scribble)
        assert reach.by_offset(scribble) == []
        assert taken > 0
        assert refused == (0 if now is None else DRIVER_PAGES)
        assert canary.alive(), "a page of somebody else was written"

    with now(card) if now else contextlib.nullcontext():
        neighbour.play(meanwhile=scribble_everywhere)
    canary.close()
    if now:
        card.destroy()

    def scribble_on_the_successor():
        assert reach.write(scribble)[1] == 0
        assert reach.by_offset(scribble) == []
        assert all(scribble.startswith(page) for page in reach.read()), "the successor can be read"

    # One of the same name, made anew.
    successor = Neighbour(make_card, "music", RealCard("real0", 5))
    successor.play(meanwhile=scribble_on_the_successor)
    assert scribble not in reach_of(successor.device_pid()).read(), "the successor was written"


def test_a_page_that_the_process_has_pinned_is_nobody_elses(make_card, reach_of):
    """What vmsplice() has put in a pipe stays in reach, whatever is unmapped: the kernel does not use such a
    page again before it is let go."""
    card = make_card("music", "--host", "null")
    canary = Canary()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 256 * PAGE)
    with playing_and_recording(card):
        reach = reach_of(card.device.pid)
        memory = next(memory for name, memory in reach.mapped if name.endswith(OWN_FILES[0]))
        end = len(memory)
        # The PCM pages are the last part, in a window of twice their number.
        window = range(end - 2 * int(card.attribute("zero_copy_size")), end, PAGE)
        pinned = [at for at in window if memory[at : at + PAGE] != bytes(PAGE)]
        assert len(pinned) >= BUFFER * Layout().frame_bytes // PAGE
        for at in pinned:
            pin(writer, memory, at)
    canary.settle()
    card.destroy()
    assert canary.page not in [os.read(reader, PAGE) for _ in pinned]
    os.close(reader)
    os.close(writer)
    canary.close()
