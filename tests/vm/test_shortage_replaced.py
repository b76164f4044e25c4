# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process has to be replaced, or a card to be made, where there is too little of something."""

import itertools
import os
import pathlib
import re
import signal

import alsa_tools
import control_group
import guest_memory
import holes
import pytest
import sounds
from card import Card
from control_group import ControlGroup
from kernel_log import KernelLog
from neighbour import Neighbour
from programs import wait_until
from sounds import Layout
from survivors import RespawnedCard, SupervisedCard
from test_shortage import BUFFER, NO_ROOM, PERIOD, UNANSWERED, Disk, limit
from test_survive import LONGEST, play_for_a_second

FOLDER = pathlib.Path("/run/virtio-loopback")  # of command sockets, and of what is in flight
COMMANDS, INFLIGHT = FOLDER / "music.commands", FOLDER / "music.inflight"


class Folder(Disk):
    """The folder, with little room."""

    def __init__(self):
        FOLDER.mkdir(exist_ok=True)
        super().__init__(FOLDER, "size=192k,nr_inodes=16")

    def names(self):
        return {path.name for path in self.mounted.iterdir()}

    def fill(self):
        """Until there is no room for another byte, nor for another file."""
        with pytest.raises(OSError, match=NO_ROOM):
            (self.mounted / "filling").write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match=NO_ROOM):
            for number in itertools.count():
                (self.mounted / f"filling{number}").touch()

    def make_room(self):
        for path in self.mounted.glob("filling*"):
            path.unlink()


class GroupedCard(SupervisedCard):
    """Its device process puts itself into the control group."""

    def __init__(self, name, *host):
        enter = f'echo $$ >{control_group.FOLDER}/cgroup.procs; exec "$@"'
        super().__init__(name, *host, prefix=["/bin/sh", "-c", enter, "sh"])


@pytest.fixture
def folder():
    folder = Folder()
    yield folder
    folder.close()


@pytest.fixture
def memory():
    group = ControlGroup("memory")
    yield group
    group.close()


@pytest.fixture
def sound():
    return sounds.noise(Layout(), 4 * 48000)


@pytest.fixture
def make_music(make_card, real):
    return lambda kind: make_card("music", "--host", "alsa", "--playback-device", real.device, kind=kind)


def check_it_plays(card, real, sound):
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)


def check_it_goes_on(card, real, sound):
    """The device process dies while it plays: who plays hears of nothing but a hole."""
    recorder, player = play_for_a_second(card, real, sound)
    card.end_device(signal.SIGKILL)
    player.finish()
    holes.check(holes.pieces(sound, recorder.finish(), recorder.buffer), sound, LONGEST)


@pytest.mark.parametrize("kind", [SupervisedCard, RespawnedCard])
def test_the_folder_of_a_card_is_full(make_music, folder, real, sound, kind):
    card = make_music(kind)
    assert INFLIGHT.name in folder.names()
    folder.fill()
    check_it_goes_on(card, real, sound)


def test_what_is_in_flight_has_no_room(make_music, folder, real, sound):
    """The adapter says so, and keeps it as long as it runs."""
    folder.fill()
    card = make_music(RespawnedCard)
    log = card.adapter.output()
    assert f"what is in flight will not outlive this program: {INFLIGHT}: {NO_ROOM}" in log, log
    check_it_goes_on(card, real, sound)
    assert not any("inflight" in name for name in folder.names())


def test_a_card_whose_socket_has_no_room(make_music, folder, real, sound):
    """It is not made, and the log says which file is in need of room; nothing is left of it. With room, it is."""
    folder.fill()
    before = folder.names()
    card = SupervisedCard("music", "--host", "null")
    card.launch_adapter()
    assert card.adapter.wait() == 1
    log = card.adapter.output()
    assert re.search(f"cannot listen on {COMMANDS}: {NO_ROOM}.*; make room in .*\n.*the device process ended", log), log
    assert not card.folder.exists() and folder.names() == before
    folder.make_room()
    check_it_plays(make_music(SupervisedCard), real, sound)


def replace_where(card, falls_short):
    """The device process dies, and something falls short before its adapter hears of that; returns the dead."""
    dead = card.device_pid()
    card.adapter.send(signal.SIGSTOP)
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: pathlib.Path(f"/proc/{dead}/stat").read_text().split(") ")[1].startswith("Z"), "it to be dead")
    wait_until(lambda: os.listdir(f"/proc/{dead}/task") == [str(dead)], "its threads to be gone")
    falls_short()
    card.adapter.send(signal.SIGCONT)
    return dead


def test_the_room_of_a_dead_process_is_taken(make_music, folder, real, sound):
    """The next ones say what is missing; the card is back when there is room."""

    def take_room():
        (folder.mounted / COMMANDS.name).unlink()
        folder.fill()

    card = make_music(SupervisedCard)
    dead = replace_where(card, take_room)
    error = f"cannot listen on {COMMANDS}: {NO_ROOM}"
    wait_until(lambda: card.adapter.output().count(error) > 2, "some tries")
    folder.make_room()
    card.wait_for_another(dead)
    check_it_plays(card, real, sound)


# So little of it that nothing can be opened or started, and enough.
# Two processes that say something at once may do so into each other's lines.
TOO_LITTLE = re.compile(
    r"cannot (?s:.*?)(Too many open files|Cannot allocate memory|Resource temporarily unavailable)")
LITTLE = [("nofile", 3, 1024), ("as", 1 << 20, "unlimited")]


@UNANSWERED
@pytest.mark.parametrize("name, little, enough", LITTLE)
def test_an_adapter_has_too_little_for_another_device_process(make_card, make_music, real, sound, name, little, enough):
    """It says so once, and tries on: the card is back as soon as there is enough. Next door nobody hears of it."""
    neighbour = Neighbour(make_card)
    card = make_music(SupervisedCard)
    dead = card.device_pid()
    recorder, player = play_for_a_second(card, real, sound)

    def meanwhile():
        limit(card.adapter, **{name: little})
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: TOO_LITTLE.search(card.adapter.output()), "a word about it")

    neighbour.play(meanwhile, frames=96000)
    assert player.wait() == 1, player.output()
    recorder.stop()
    limit(card.adapter, **{name: enough})
    card.wait_for_another(dead)
    check_it_plays(card, real, sound)
    log = card.adapter.output()
    assert len(TOO_LITTLE.findall(log)) == 1, log


@UNANSWERED
@pytest.mark.parametrize("name, little", [few[:2] for few in LITTLE])
def test_a_guard_has_too_little_for_another_device_process(make_card, make_music, real, sound, name, little):
    """It says so and ends; who starts both again, as a service manager does, has the card back."""
    neighbour = Neighbour(make_card)
    card = make_music(RespawnedCard)
    recorder, player = play_for_a_second(card, real, sound)

    def meanwhile():
        limit(card.device, **{name: little})
        os.kill(card.device_pid(), signal.SIGKILL)
        assert card.device.wait() == 1, card.device.output()

    neighbour.play(meanwhile, frames=96000)
    assert player.wait() == 1, player.output()
    recorder.stop()
    log = card.device.output()
    assert TOO_LITTLE.search(log), log
    card.device.forget()
    card.start_device()
    wait_until(card.ready, "the card to be served again")
    check_it_plays(card, real, sound)


@pytest.fixture
def shell():
    """In memory for a while: other tests want the guest's own."""
    guest_memory.add(["/bin/sh"])
    yield
    (guest_memory.ROOT / "bin/sh").unlink()


def test_the_kernel_lets_a_device_process_have_too_little_memory(make_card, make_music, memory, shell, real, sound):
    """It is killed at its start, and started again: the card is back as soon as there is enough. Next door nobody
    hears of it."""
    neighbour = Neighbour(make_card)
    card = make_music(GroupedCard)
    dead = []

    def meanwhile():
        dead.append(replace_where(card, lambda: memory.limit(512 << 10)))
        wait_until(lambda: memory.count("oom_kill") > 1, "some to be killed")

    neighbour.play(meanwhile, frames=96000)
    ended = "the device process ended (signal: 9 (SIGKILL)); it is started again"
    assert card.adapter.output().count(ended) > 1, card.adapter.output()
    memory.limit("max")
    card.wait_for_another(*dead)
    check_it_plays(card, real, sound)


def test_the_kernel_lets_an_adapter_have_too_little_memory_for_a_card(make_card, memory):
    """It is killed, and nothing is left of the card, nor of its memory. With enough there is one."""
    log, least = KernelLog(), 1000 << 10
    card = Card("music", "--host", "null")
    card.launch_adapter()
    memory.move(card.adapter.pid)
    memory.limit(least)
    card.start_device()
    assert card.adapter.wait() == -signal.SIGKILL, card.adapter.output()
    told = [text for _, text in log.new_lines() if "Memory cgroup out of memory: Killed process" in text]
    log.close()
    assert len(told) == 1 and "(virtio-loopback)" in told[0], told
    assert not card.folder.exists() and not INFLIGHT.exists()
    wait_until(lambda: memory.used() < least // 2, "its memory to be given back")
    card.device.stop()
    memory.limit("max")
    make_card("music", "--host", "null")
