# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process sees what its own card plays, and nothing else of the machine.

The test takes the memory file out of the device process that serves a playing card, and
reads every page of it, as that process could.
"""

import contextlib
import mmap
import os
import pathlib
import socket

import alsa_tools
import pytest
import sounds
from programs import links, wait_until
from reach import PAGE, Reach, memory_of, pages_with_content
from real_card import RealCard
from sounds import Layout
from survivors import RespawnedCard, ServedCard, SupervisedCard, SupervisedRespawnedCard

PIECE = 64
MIB = 1 << 20
# What memory is full of that others have used: nobody has this by chance.
MARK = bytes.fromhex("9d1fe6b2075ac843")


def pieces(data):
    return {data[at : at + PIECE] for at in range(0, len(data), PIECE)}


# Of four of the latter, the last page is sound but for 512 bytes.
PERIODS = pytest.mark.parametrize("period", [1024, 480])


@pytest.mark.core
@PERIODS
def test_a_playing_card_shows_its_own_sound_and_nothing_else(make_card, period):
    layout = Layout()
    frames = 3 * 48000 // period * period
    own, others = (sounds.noise(layout, frames, seed) for seed in (5, 6))
    card = make_card("music", "--host", "null")
    other = make_card("phone", "--host", "alsa", "--playback-device", RealCard("real0").device)
    # Kept in this process's memory, and in a file and a pipe of the kernel.
    secret = sounds.noise(layout, period, seed=7).data
    reader, writer = os.pipe()
    os.write(writer, secret)
    players = [
        alsa_tools.Player(c.pcm, sound, period=period, buffer=4 * period)
        for c, sound in ((card, own), (other, others))
    ]
    wait_for_sound(card)
    memory = memory_of(card.device, int(card.attribute("memory_size")))
    pages = pages_with_content(memory)
    memory.close()
    assert all(player.running() for player in players), "the sounds ended before all pages were read"
    for player in players:
        player.finish()
    os.close(reader)
    os.close(writer)

    own_pieces, foreign = pieces(own.data), pieces(others.data) | pieces(secret)
    sound_pages, odd_pages, mixed = 0, 0, 0
    for page in pages:
        found = pieces(page)
        assert not found & foreign, "another card's sound, or the secret, is in reach of the device"
        known = found & own_pieces
        if len(known) >= len(found) // 2 and known:
            sound_pages += 1
            mixed += bool(found - known - {bytes(PIECE)})
        else:
            odd_pages += 1
    # The buffer of 4 periods and not much more: a page may hold both ends of a lap, and is there once for each
    # period whose pages are mapped together, as are two that happen to follow each other in memory.
    size = period * layout.frame_bytes
    spans = {(at // PAGE, (at + size - 1) // PAGE) for at in range(0, 4 * size, size)}
    assert -(-4 * size // PAGE) <= sound_pages + 1
    assert sound_pages <= sum(last - first + 1 for first, last in spans) + 1
    assert mixed == 0, "a page of the card's sound holds something else, too"
    # What remains are the queues and the slots of control messages; never more than there are.
    own_memory = 4 * 64 * 1024 + int(card.attribute("bounce_size"))
    assert 0 < odd_pages <= own_memory // PAGE


def wait_for_sound(card):
    wait_until(lambda: card.counter("zero_copy_pages") > 0, "the sound's pages to be mapped")
    calls = card.counter("calls")
    wait_until(lambda: card.counter("calls") > calls + 8, "the buffer to have been played once")


@pytest.mark.core
def test_nothing_of_a_sound_remains_in_reach(make_card):
    """The pages of a buffer that has been freed are no longer the device's."""
    card = make_card("music", "--host", "null")
    sound = sounds.noise(Layout(), 24 * 1024, seed=8)
    alsa_tools.play(card.pcm, sound, period=1024, buffer=4096)
    wait_until(lambda: card.counter("zero_copy_pages") == 0, "the pages to be let go")
    memory = memory_of(card.device, int(card.attribute("memory_size")))
    played = pieces(sound.data)
    remains = sum(bool(pieces(page) & played) for page in pages_with_content(memory))
    memory.close()
    assert remains == 0


def leave_marks():
    """Fills pages and smaller pieces of memory with the mark, and gives them back."""
    with mmap.mmap(-1, 256 * MIB) as memory:
        for at in range(0, len(memory), MIB):
            memory[at : at + MIB] = MARK * (MIB // len(MARK))
    for size in (64, 256, 1024, 4096):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        try:
            while True:
                ours.send(MARK * (size // len(MARK)))
        except BlockingIOError:
            pass
        ours.close()
        theirs.close()


@pytest.mark.core
@PERIODS
def test_nothing_that_others_left_is_in_reach_at_any_time(make_card, period):
    """Not before a stream, not during, not after it, not when the card has gone."""
    assert "init_on_alloc=0" in pathlib.Path("/proc/cmdline").read_text(), "the kernel would hide it"
    layout = Layout()
    own, others = (sounds.noise(layout, 48 * 1024, seed) for seed in (9, 10))
    other = make_card("phone", "--host", "null")
    alsa_tools.play(other.pcm, others, period=period, buffer=4 * period)
    leave_marks()
    card = make_card("music", "--host", "null")
    memory = memory_of(card.device, int(card.attribute("memory_size")))
    played, foreign = pieces(own.data), pieces(others.data)

    def look(when, own_may_be_there=False):
        pages = pages_with_content(memory)
        assert not [page for page in pages if MARK in page], f"{when}: what was in memory before"
        found = set().union(*map(pieces, pages))
        assert not found & foreign, f"{when}: what another card has played"
        assert own_may_be_there or not found & played, f"{when}: what is no longer being played"

    look("before the stream")
    leave_marks()
    player = alsa_tools.Player(card.pcm, own, period=period, buffer=4 * period)
    wait_for_sound(card)
    look("during the stream", own_may_be_there=True)
    player.finish()
    wait_until(lambda: card.counter("zero_copy_pages") == 0, "the pages to be let go")
    look("after the stream")
    leave_marks()
    card.destroy()
    look("when the card has gone")
    memory.close()


@pytest.mark.core
@pytest.mark.parametrize("kind", [ServedCard, SupervisedCard, RespawnedCard, SupervisedRespawnedCard])
def test_what_a_device_process_holds(make_card, real, kind):
    """Not the control file, through which memory of others could be had, nor anything else that an adapter or a
    guard has left open. test_driver_memory has what can be done with the file that it does hold."""
    host = ["--host", "alsa", "--playback-device", real.device, "--capture-device", real.device]
    card = make_card("music", *host, kind=kind)
    player = alsa_tools.Player(card.pcm, sounds.noise(Layout(), 2 * 48000), period=1024, buffer=4096)
    pid = card.device_pid()

    wait_until(lambda: any("/dev/snd/pcm" in name for name in links(pid).values()), "the real card to be opened")
    with contextlib.closing(Reach(pid)) as reach:
        assert not reach.strange()
    player.finish()
