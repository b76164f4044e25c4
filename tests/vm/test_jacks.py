# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Jacks of the virtual card, as alsa-lib's programs show them, plugged by command and by a real card's jack."""

import fcntl
import json
import os
import pathlib
import re
import signal
import struct

import alsa_tools
import programs
import pytest
import sounds
from programs import Program, wait_until
from sounds import Layout
from test_mixer import Desk, Monitor, amixer, desk

assert desk  # a fixture

COMMANDS = programs.FOLDER / "commands"

PLAYER = """
controls = "none"

[[stream]]
name = "player"
direction = "playback"
host = "alsa"
pcm = "PCM"
"""
JACKS = """
[[jack]]
kind = "headphone"
plugged = false

[[jack]]
kind = "microphone"

[[jack]]
kind = "hdmi-out"
plugged = false
"""
FOLLOWER = """
[[stream]]
direction = "playback"
host = "null"

[[jack]]
kind = "headphone"
follow = { card = "hw:desk", element = "Headphone Jack" }
"""
# SNDRV_CTL_IOCTL_ELEM_ADD, and `struct snd_ctl_elem_info`: id, type, access, count, owner, and the rest.
ELEM_ADD = 0xC1105517
ELEM_INFO = "=IiII44sI" + "iIIi" + "192x"


def add_jack(card, name):
    """Gives a real card an element as snd_jack makes one, but one that a program may change."""
    iface_card, boolean, read_write = 0, 1, 3
    element = struct.pack(ELEM_INFO, 0, iface_card, 0, 0, name.encode(), 0, boolean, read_write, 1, 0)
    number = os.readlink(f"/proc/asound/{card}").removeprefix("card")
    with open(f"/dev/snd/controlC{number}", "r+b", buffering=0) as control:
        fcntl.ioctl(control, ELEM_ADD, bytearray(element))


def tell(*words):
    return programs.run(programs.path_of("vhost-user-sound"), "tell", COMMANDS, *words).stdout


def plugged(card, name):
    text = amixer(card, "cget", f"iface=CARD,name={name}")
    return re.search(r"^  : values=(on|off)$", text, re.MULTILINE)[1] == "on"


@pytest.fixture
def jacks(make_card, real, tmp_path):
    (tmp_path / "card.toml").write_text(PLAYER.replace("PCM", real.device) + JACKS)
    return make_card("music", "--card", tmp_path / "card.toml", "--command-socket", COMMANDS)


@pytest.mark.core
def test_the_card_shows_its_jacks(jacks):
    contents = amixer(jacks, "contents")
    names = sorted(re.findall(r"iface=CARD,name='(.*)'", contents))
    assert names == ["HDMI Out Jack", "Headphone Jack", "Mic Jack"]
    assert [plugged(jacks, name) for name in names] == [False, False, True]
    assert "type=BOOLEAN,access=r-------,values=1" in contents


@pytest.mark.core
def test_a_jack_is_plugged_by_command(jacks):
    monitor = Monitor(jacks.name)
    for jack, name, state in [
        ("headphone", "Headphone Jack", "plugged"),
        ("headphone", "Headphone Jack", "unplugged"),
        ("1", "Mic Jack", "unplugged"),
        ("hdmi-out", "HDMI Out Jack", "plugged"),
    ]:
        told = len(monitor.output().splitlines())
        assert tell("jack", jack, state).endswith(f" {state}\n")
        wait_until(lambda name=name, state=state: plugged(jacks, name) == (state == "plugged"), f"{name} {state}")
        wait_until(lambda told=told: len(monitor.output().splitlines()) > told, "alsactl monitor")
        assert name in monitor.output().splitlines()[-1]
        # The same again is no news.
        told = len(monitor.output().splitlines())
        tell("jack", jack, state)
        tell("status")
        assert len(monitor.output().splitlines()) == told
    said = tell("jacks")
    assert said == "jack 0  headphone  unplugged\njack 1  microphone  unplugged\njack 2  hdmi-out  plugged\n"


@pytest.mark.core
def test_a_jack_that_is_plugged_is_not_heard(jacks, real):
    sound = sounds.noise(Layout(), 2 * 48000 // 480 * 480)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(jacks.pcm, sound, period=480, buffer=1920)
    turns = 0
    while player.running():
        tell("jack", "headphone", "plugged" if turns % 2 == 0 else "unplugged")
        turns += 1
    player.finish()
    assert turns > 4
    result = recorder.compare(sound)
    assert result.exact, str(result)
    wait_until(lambda: plugged(jacks, "Headphone Jack") == (turns % 2 == 1), "the last state")


@pytest.mark.core
def test_a_driver_that_comes_anew_finds_the_jacks_as_they_are(jacks):
    """Also while they change: an event that comes too early would bring the driver down."""
    driver = pathlib.Path("/sys/bus/virtio/drivers/virtio_snd")
    name = next(jacks.folder.glob("virtio*")).name
    words = [programs.path_of("vhost-user-sound"), "tell", COMMANDS, "jack", "headphone"]
    going_on = programs.FOLDER / "plugging"
    going_on.touch()
    plugger = Program("sh", "-c", 'while [ -e "$0" ]; do "$@" plugged; "$@" unplugged; done', going_on, *words)
    for _ in range(8):
        (driver / "unbind").write_text(name)
        programs.bind_virtio_snd(name)
        jacks.wait_ready()
    going_on.unlink()
    plugger.wait()
    tell("jack", "headphone", "plugged")
    wait_until(lambda: plugged(jacks, "Headphone Jack"), "the jack")
    tell("jack", "microphone", "unplugged")
    wait_until(lambda: not plugged(jacks, "Mic Jack"), "the jack")


@pytest.mark.parametrize("remembered", [True, False])
def test_another_device_process_tells_what_is_different(jacks, remembered):
    """The driver asks only once. A process that takes over leaves the jacks as they were; one that knows
    nothing of its predecessor begins with its own, and tells the driver what is different."""
    tell("jack", "headphone", "plugged")
    wait_until(lambda: plugged(jacks, "Headphone Jack"), "the jack")
    jacks.adapter.stop()
    jacks.device.stop()
    if not remembered:
        pathlib.Path(f"/run/virtio-loopback/{jacks.name}.inflight").unlink()
    jacks.start_device()
    jacks.start_adapter()
    if remembered:
        assert re.search(r"headphone +plugged", tell("jacks"))
        tell("jack", "headphone", "unplugged")
    wait_until(lambda: not plugged(jacks, "Headphone Jack"), "the new device's jack")
    assert plugged(jacks, "Mic Jack")


def test_a_jack_follows_the_real_one(desk, make_card, tmp_path):
    add_jack(Desk.name, "Headphone Jack")
    amixer(Desk, "cset", "iface=CARD,name=Headphone Jack", "on")
    (tmp_path / "card.toml").write_text(FOLLOWER)
    card = make_card("music", "--card", tmp_path / "card.toml", "--command-socket", COMMANDS)
    assert plugged(card, "Headphone Jack")
    assert tell("jacks") == "jack 0  headphone  plugged  follows hw:desk Headphone Jack\n"
    for state in (False, True, False):
        amixer(Desk, "cset", "iface=CARD,name=Headphone Jack", "on" if state else "off")
        wait_until(lambda state=state: plugged(card, "Headphone Jack") == state, "the real jack")


def test_lost_sound_is_told_and_disturbs_no_player(jacks):
    """A player that is stopped for longer than its buffer loses sound; the driver is told, and plays on."""
    if alsa_tools.PLAYS_ON:
        pytest.skip("before 6.12 the driver keeps the device supplied, whatever the player does")
    file = pathlib.Path("/tmp/lost.raw")
    file.write_bytes(sounds.noise(Layout(), 480 * 300).data)
    options = ["--period-size", 480, "--buffer-size", 1920, "--stop-delay", 60_000_000]
    player = Program("aplay", "-D", jacks.pcm, *Layout().alsa_options, *options, file)

    def stream():
        return json.loads(tell("status", "--json"))["streams"][0]

    wait_until(lambda: stream()["frames"] > 4800 or not player.running(), "the sound")
    player.send(signal.SIGSTOP)
    wait_until(lambda: stream()["frames"] == stream()["frames"], "the end of what it has written")
    player.send(signal.SIGCONT)
    wait_until(lambda: stream()["gaps"] > 0, "the gap")
    assert player.wait(60) == 0, player.output()
    assert "underrun" not in player.output()
