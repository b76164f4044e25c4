# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A full disk, no descriptors, memory or processes left: what runs goes on, and the log says what is wrong."""

import glob
import json
import os
import pathlib
import re
import signal
import time

import alsa_tools
import guest_memory
import kernel_log
import programs
import pytest
import sounds
from control_group import FOLDER, ControlGroup
from programs import wait_until
from real_card import RealCard
from sounds import Layout
from survivors import RespawnedCard, SupervisedCard
from test_gstreamer import PLUGINS

PERIOD, BUFFER = 480, 3840
NO_ROOM = "No space left on "
# What virtio_snd says while nobody serves its card.
UNANSWERED = pytest.mark.kernel_may_say(kernel_log.UNANSWERED)


@pytest.fixture
def sound():
    return sounds.noise(Layout(), 3 * 48000)


class Disk:
    """A file system of its own, with room for a third of the sound, where programs in the small root see it."""

    def __init__(self, folder, room="size=192k"):
        self.folder = folder  # its name there
        self.mounted = guest_memory.ROOT / str(folder).lstrip("/")
        programs.run("mount", "-t", "tmpfs", "-o", room, "tmpfs", self.mounted)

    def make_room(self):
        programs.run("mount", "-o", "remount,size=4m", self.mounted)

    def close(self):
        programs.run("umount", "--lazy", self.mounted)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.close()


@pytest.fixture
def neighbour(make_card):
    return make_card("phone", "--host", "alsa", "--playback-device", RealCard("real1").device)


def play_beside(card, neighbour, sound):
    """Plays on both. Nothing of the neighbour's sound is lost; the card's application sees no error."""
    recorder = alsa_tools.Recorder(RealCard("real1").far_end, sound.layout)
    players = [alsa_tools.Player(one.pcm, sound, PERIOD, BUFFER) for one in (neighbour, card)]
    for player in players:
        player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)


def test_a_full_disk(make_card, neighbour, disk, sound):
    """With room again, the next sound is written."""
    out = disk.folder / "out.wav"
    card = make_card("music", "--host", "file", "--playback-file", out)
    play_beside(card, neighbour, sound)
    wait_until(lambda: NO_ROOM in card.device.output(), "the error in the log")
    assert str(out) in next(line for line in card.device.output().splitlines() if NO_ROOM in line)
    disk.make_room()
    written = disk.mounted / "out.wav"
    written.unlink()
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    wait_until(lambda: written.exists() and sounds.read_wav(written)[1] == sound.data, "the next sound in the file")


def test_a_full_disk_below_a_pipeline(make_card, neighbour, disk, sound, monkeypatch):
    guest_memory.add([f"{glob.glob('/usr/lib/*/gstreamer-1.0')[0]}/libgst{name}.so" for name in PLUGINS])
    monkeypatch.setenv("GST_REGISTRY_FORK", "no")
    monkeypatch.setenv("GST_REGISTRY", "/run/virtio-loopback-tests/registry")
    pipeline = f"wavenc ! filesink location={disk.folder}/out.wav"
    card = make_card("music", "--host", "gstreamer", "--playback-pipeline", pipeline)
    play_beside(card, neighbour, sound)
    wait_until(lambda: re.search(NO_ROOM, card.device.output()), f"the error in the log: {card.device.output()}")


def limit(program, **limits):
    options = [f"--{name}={value}:{value}" for name, value in limits.items()]
    programs.run("prlimit", "--pid", program.pid, *options)


def size(program):
    """Of the address space."""
    return int(pathlib.Path(f"/proc/{program.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


def test_no_file_descriptors_are_left(music, real, sound):
    """What plays is exact. An adapter that comes then is told what is missing, and serves with descriptors again."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, PERIOD, BUFFER)
    recorder.wait_for(recorder.frames() + 24000)
    for program in (music.device, music.adapter):
        limit(program, nofile=3)
    music.kill_adapter()
    music.launch_adapter()
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    told = [line for line in music.device.output().splitlines() if "Too many open files" in line]
    assert told and len(told) <= 2, told
    assert any("cannot let a frontend in, and tries on: Too many open files" in line for line in told), told
    assert music.device.running(), music.device.output()
    limit(music.device, nofile=1024)
    if not music.adapter.running():
        music.launch_adapter()
    music.wait_ready()
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(music.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.parametrize("descriptors", [3, 9])
def test_an_adapter_without_descriptors_tries_on(music, real, sound, descriptors):
    """It reaches its next device process, or can serve with it, when there are descriptors again; it says so once."""
    limit(music.adapter, nofile=descriptors)
    music.device.kill()
    music.start_device()
    wait_until(lambda: "tries on: " in music.adapter.output(), "a word about it")
    time.sleep(0.5)
    told = [line for line in music.adapter.output().splitlines() if "Too many open files" in line]
    assert len(told) == 1, told
    limit(music.adapter, nofile=1024)
    music.wait_ready()
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(music.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)


def test_no_memory_is_left(music, real, sound):
    """Nothing that plays needs any more than it has."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, PERIOD, BUFFER)
    recorder.wait_for(recorder.frames() + 24000)
    take_memory(music.device, music.adapter)
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    assert music.device.running() and music.adapter.running()


def take_memory(*some):
    """Programs get no more than they have."""
    for program in some:
        limit(program, **{"as": size(program), "data": 4096})


def give_memory(*some):
    for program in some:
        limit(program, **{"as": "unlimited", "data": "unlimited"})


@pytest.mark.kernel_may_say("exceed data ulimit")
def test_another_card_is_played_on_while_no_memory_is_left(music, neighbour, real, sound):
    """Its real card cannot be opened: it goes on in silence and says so. With memory again, it is heard."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, PERIOD, BUFFER)
    recorder.wait_for(recorder.frames() + 24000)
    starved = [music.device, music.adapter, neighbour.device, neighbour.adapter]
    take_memory(*starved)
    alsa_tools.play(neighbour.pcm, sound, period=PERIOD, buffer=BUFFER)
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    log = neighbour.device.output()
    assert re.search("emory.*; the stream goes on in silence until it can be used", log), log
    assert all(program.running() for program in starved), log
    give_memory(*starved)
    play_beside(music, neighbour, sound)


@pytest.mark.kernel_may_say("exceed data ulimit|control message .* timeout")
def test_a_new_adapter_comes_while_no_memory_is_left(music, real, sound):
    """It is told what is missing, and serves with memory again. What plays is exact."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, PERIOD, BUFFER)
    recorder.wait_for(recorder.frames() + 24000)
    take_memory(music.device)
    music.kill_adapter()
    music.launch_adapter()
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
    assert music.device.running(), music.device.output()
    give_memory(music.device)
    if not music.adapter.running():
        music.launch_adapter()
    music.wait_ready()


@pytest.fixture
def tasks():
    tasks = ControlGroup("pids")
    yield tasks
    tasks.close()


def die_without_another(card, tasks, sound, most=1):
    """The device process dies while it plays, and its parent gets no more than so many tasks, itself included;
    returns the number of the dead. Whoever plays may have an error."""
    tasks.move(parent(card).pid)
    tasks.limit(most)
    player = alsa_tools.Player(card.pcm, sound, PERIOD, BUFFER)
    calls = card.counter("calls")
    wait_until(lambda: card.counter("calls") > calls + 40, "the sound to be under way")
    dead = card.device_pid()
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: tasks.count("max") > 0, "the shortage to be met")
    player.wait(20)
    return dead


def parent(card):
    """Who starts the next device process: its guard, or the adapter."""
    return card.device or card.adapter


@UNANSWERED
@pytest.mark.parametrize("kind", [SupervisedCard, RespawnedCard])
def test_no_process_is_left(make_card, tasks, real, sound, kind):
    """A device process that dies has none in its place until there may be one: the card plays again then."""
    card = make_card("music", "--host", "alsa", "--playback-device", real.device, kind=kind)
    dead = die_without_another(card, tasks, sound)
    refused = tasks.count("max")
    wait_until(lambda: tasks.count("max") > refused + 2, "it to be tried again")
    tasks.limit("max")
    card.wait_for_another(dead)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@UNANSWERED
def test_an_adapter_says_that_it_gets_no_process(make_card, tasks, sound):
    card = make_card("music", "--host", "null", kind=SupervisedCard)
    dead = die_without_another(card, tasks, sound)
    tasks.limit("max")
    card.wait_for_another(dead)
    log = card.adapter.output()
    assert log.count("cannot start a process: Resource temporarily unavailable") == 1, log


@UNANSWERED
def test_a_guard_says_that_it_gets_no_process(make_card, tasks, sound):
    card = make_card("music", "--host", "null", kind=RespawnedCard)
    dead = die_without_another(card, tasks, sound)
    says = "cannot start a process that serves, and tries on: Resource temporarily unavailable"
    wait_until(lambda: says in card.device.output(), says)
    tasks.limit("max")
    card.wait_for_another(dead)


@UNANSWERED
def test_a_guard_that_gets_no_process_ends_when_it_is_told(make_card, tasks, sound):
    """As `systemctl stop` tells it."""
    card = make_card("music", "--host", "null", kind=RespawnedCard)
    die_without_another(card, tasks, sound)
    card.adapter.stop()
    assert card.device.stop() == 0, card.device.output()
    assert not card.socket.exists(), "the socket of the dead process is still there"


# Beside the guard and the process itself.
@UNANSWERED
@pytest.mark.parametrize("threads", [0, 1])
def test_the_process_of_a_guard_gets_no_threads(make_card, tasks, sound, threads):
    """It says so and ends, its guard with it; who starts both again, as a service manager does, has the card back."""
    card = make_card("music", "--host", "null", kind=RespawnedCard)
    die_without_another(card, tasks, sound, most=2 + threads)
    assert card.device.wait() == 1
    log = card.device.output()
    assert re.search("vhost-user-sound: cannot .*: Resource temporarily unavailable", log), log
    assert "panicked" not in log, log
    card.device.forget()
    card.start_device()
    wait_until(card.ready, "the card to be served again")
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)


def test_status_gets_no_threads(make_card, tasks):
    """It asks one device process behind the other."""
    folder = pathlib.Path("/run/virtio-loopback")
    folder.mkdir(exist_ok=True)
    for name in ("music", "phone"):
        make_card(name, "--host", "null", "--command-socket", folder / f"{name}.commands")
    tasks.limit(1)
    command = f"echo $$ >{FOLDER}/cgroup.procs; exec {programs.path_of('virtio-loopback')} status --json"
    cards = json.loads(programs.run("sh", "-c", command).stdout)
    assert tasks.count("max") == 2
    assert all("answer" in card["device_process"] for card in cards), cards


@pytest.mark.parametrize("name", ["nofile", "as"])
def test_too_little_to_start_with_is_told(name):
    program = [programs.path_of("virtio-loopback"), "run", "--name", "music", "--"]
    program += [programs.path_of("vhost-user-sound"), "--host", "null"]
    least = {"nofile": 4, "as": 8 << 20}[name]
    result = programs.run("prlimit", f"--{name}={least}:{least}", *program, check=False)
    assert result.returncode not in (0, 101), result
    assert re.search("Too many open files|annot allocate memory|annot map|failed to map", result.stderr), result.stderr
