# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process sees what its own card plays, and nothing else of the machine.

The test takes the memory file out of the device process that serves a playing card, and
reads every page of it, as that process could.
"""

import ctypes
import mmap
import os

import alsa_tools
import pytest
import sounds
from programs import wait_until
from real_card import RealCard
from sounds import Layout

PIDFD_GETFD = 438
PIECE = 64
PAGE = mmap.PAGESIZE


def take_file(pid, number):
    """A duplicate of another process's open file."""
    process = os.pidfd_open(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    taken = libc.syscall(PIDFD_GETFD, process, number, 0)
    os.close(process)
    if taken < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return taken


def memory_of(program, size):
    """The memory file among the files of a device process: the one of the right size."""
    for number in map(int, os.listdir(f"/proc/{program.pid}/fd")):
        if os.stat(f"/proc/{program.pid}/fd/{number}").st_size == size:
            file = take_file(program.pid, number)
            memory = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
            os.close(file)
            return memory
    raise AssertionError(f"none of the files of {program} has {size} bytes")


def pages_with_content(memory):
    empty = bytes(PAGE)
    return [page for at in range(0, len(memory), PAGE) if (page := memory[at : at + PAGE]) != empty]


def pieces(data):
    return {data[at : at + PIECE] for at in range(0, len(data), PIECE)}


@pytest.mark.core
def test_a_playing_card_shows_its_own_sound_and_nothing_else(make_card):
    layout, period = Layout(), 1024
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
    # The buffer of 4 periods and not much more: a page may hold both ends of a lap.
    buffer_pages = 4 * period * layout.frame_bytes // PAGE
    assert buffer_pages <= sound_pages + 1
    assert sound_pages <= buffer_pages + 1
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
