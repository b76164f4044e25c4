# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The audio thread goes before every ordinary program, and its memory stays."""

import os
import pathlib
import re
import subprocess

import alsa_tools
import programs
import pytest
import sounds
from programs import Program, wait_until
from sounds import Layout

KIB_A_CARD = 4096


def scheduling(pid):
    """Scheduling policy and real-time priority of each thread, by its name."""
    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        priority = os.sched_getparam(int(task.name)).sched_priority
        # With SCHED_RESET_ON_FORK, which is a flag here, a thread hands nothing on.
        policy = os.sched_getscheduler(int(task.name)) & ~os.SCHED_RESET_ON_FORK
        threads[(task / "comm").read_text().strip()] = (policy, priority)
    return threads


def locked_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmLck")).split()[1])


@pytest.mark.core
def test_the_audio_thread_alone_is_real_time(make_card):
    card = make_card("music", "--host", "null")
    threads = scheduling(card.device.pid)
    assert threads.pop("audio") == (os.SCHED_FIFO, 50)
    assert set(threads.values()) == {(os.SCHED_OTHER, 0)}, threads
    assert locked_kib(card.device.pid) > 0
    assert "WARN" not in card.device.output()


@pytest.mark.core
def test_what_chrt_and_taskset_say_is_kept_unless_an_option_says_more(tmp_path):
    """Who starts the program may have made it real-time: all of it stays so. With --rt-priority it is
    the audio thread alone."""
    cases = [
        (["chrt", "-f", "33"], [], (os.SCHED_FIFO, 33), (os.SCHED_FIFO, 33)),
        (["chrt", "-r", "12"], [], (os.SCHED_RR, 12), (os.SCHED_RR, 12)),
        (["chrt", "-R", "-f", "33"], [], (os.SCHED_FIFO, 50), (os.SCHED_OTHER, 0)),
        (["chrt", "-f", "33"], ["--rt-priority", "7"], (os.SCHED_FIFO, 7), (os.SCHED_OTHER, 0)),
        (["chrt", "-f", "33"], ["--rt-priority", "0"], (os.SCHED_OTHER, 0), (os.SCHED_OTHER, 0)),
        (["taskset", "-c", "0", "chrt", "-o", "0"], [], (os.SCHED_FIFO, 50), (os.SCHED_OTHER, 0)),
    ]
    for number, (parent, options, audio, others) in enumerate(cases):
        socket = tmp_path / f"socket-{number}"
        device = Program(*parent, programs.path_of("vhost-user-sound"), "--socket-path", socket, *options)
        wait_until(lambda: socket.exists() or not device.running(), "the device's socket")
        # A thread is named, and then gets its priority.
        wait_until(lambda: scheduling(device.pid).get("audio") == audio, f"{parent} {options}: the audio thread")
        threads = scheduling(device.pid)
        threads.pop("audio")
        assert threads and set(threads.values()) == {others}, (parent, options, threads)
        locked = audio[0] != os.SCHED_OTHER
        assert (locked_kib(device.pid) > 0) == locked, (parent, options)
        device.stop()


@pytest.mark.core
def test_cpus_that_are_not_there_are_named_with_those_that_are(tmp_path):
    socket = tmp_path / "socket"
    last = max(os.sched_getaffinity(0))
    command = [programs.path_of("vhost-user-sound"), "--socket-path", socket, "--cpus"]
    device = Program(*command, f"{last}-{last + 1}")
    assert device.wait() == 1
    assert f"--cpus {last}-{last + 1}: this process may not run on CPU {last + 1}" in device.output()
    assert not socket.exists()
    device = Program(*command, last)
    wait_until(lambda: socket.exists() or not device.running(), "the device's socket")
    tasks = [int(task.name) for task in pathlib.Path(f"/proc/{device.pid}/task").iterdir()]
    assert [os.sched_getaffinity(task) for task in tasks] == [{last}] * len(tasks)
    device.stop()


@pytest.mark.core
def test_locked_memory_is_what_was_touched(make_card):
    card = make_card("music", "--host", "null")
    # The program itself is there once, for all cards; beside a second one it counts as shared.
    make_card("navigation", "--host", "null")
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 48000), period=480, buffer=1920)
    rollup = pathlib.Path(f"/proc/{card.device.pid}/smaps_rollup").read_text()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    assert sizes["Locked"] > 0
    assert sizes["Private_Clean"] + sizes["Private_Dirty"] <= KIB_A_CARD, sizes


def memory_of_the_driver(pid):
    """KiB of the driver's memory file: as long as it is mapped, and what of it was touched."""
    found = {}
    maps = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", maps):
        if "/virtio-loopback (deleted)" in part:
            found = {name: int(kib) for name, kib in re.findall(r"(?m)^(\w+): +(\d+) kB", part)}
    return found["Size"], found["Rss"]


def test_the_drivers_memory_is_touched_where_it_is_used(make_card):
    """Locking all memory to come would touch every page as it is mapped, while who plays waits for a process."""
    card = make_card("music", "--host", "null")
    size, touched = memory_of_the_driver(card.device.pid)
    assert 0 < touched < size / 10


@pytest.mark.core
def test_a_limit_below_the_priority_is_used(tmp_path):
    socket = tmp_path / "socket"
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "prlimit", "--rtprio=0:9"]
    device = Program(*drop[3:], *drop[:3], programs.path_of("vhost-user-sound"), "--socket-path", socket)
    wait_until(lambda: socket.exists() or not device.running(), "the device's socket")
    wait_until(lambda: "audio" in scheduling(device.pid), "the audio thread")
    wait_until(lambda: "priority 9 instead of 50" in device.output(), "the note about the priority")
    assert scheduling(device.pid)["audio"] == (os.SCHED_FIFO, 9)
    device.stop()


@pytest.mark.core
def test_a_busy_machine_does_not_make_the_device_late(make_card):
    """Ordinary programs take all of the processor; sound goes on, for the device goes first."""
    card = make_card("music", "--host", "null")
    layout = Layout()
    player = alsa_tools.Player(card.pcm, sounds.noise(layout, 48000), period=480, buffer=9600)
    hogs = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(3)]
    try:
        player.finish(spare=60)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert "gaps" not in card.device.output(), card.device.output()
