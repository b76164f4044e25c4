# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The card's mixer as alsa-lib's programs show and move it, and as the listener hears it."""

import contextlib
import os
import pathlib
import re
import signal

import alsa_tools
import numpy
import programs
import pytest
import sounds
from programs import Program, wait_until
from sounds import Layout, Sound
from survivors import RespawnedCard

TYPES = {"S16_LE": "<i2", "S32_LE": "<i4"}


def amixer(card, *words):
    return programs.run("amixer", "-c", card.name, *words).stdout


def values(card, name):
    """Values of an element, as numbers."""
    text = amixer(card, "cget", f"name={name}")
    found = re.search(r"^  : values=(.*)$", text, re.MULTILINE)[1]
    return [int(value.replace("on", "1").replace("off", "0")) for value in found.split(",")]


def expect_louder(played, heard, decibels):
    """Sound arrived whole, so many decibels louder, each sample to the nearest number."""
    kind = TYPES[played.layout.format]
    before, after = (numpy.frombuffer(sound.data, kind).astype(float) for sound in (played, heard))
    expected = before * 10 ** (decibels / 20)
    # Where the first sample is loud enough to be told from the silence before.
    loud = numpy.flatnonzero(numpy.abs(expected) >= 1)[0]
    start = numpy.flatnonzero(after)[0] - loud
    assert start >= 0, "the recording starts too late"
    after = after[start : start + len(expected)]
    assert len(after) == len(expected), "the recording ends too early"
    assert numpy.max(numpy.abs(after - expected)) <= 0.5 + 1e-6


def loud_noise(layout, frames, seed=1):
    """A noise whose first sample no volume here turns into silence."""
    sound = sounds.noise(layout, frames, seed)
    first = b"\x00" * (sounds.FORMATS[layout.format][0] - 1) + b"\x55"
    return Sound(layout, first + sound.data[len(first) :])


def test_simple_mixer_has_master_and_capture(make_card):
    card = make_card("music", "--host", "null", "--channels", "2")
    assert re.findall(r"Simple mixer control '(\w+)',0", amixer(card, "scontrols")) == ["Master", "Capture"]
    for name, direction, short in [("Master", "Playback", "p"), ("Capture", "Capture", "c")]:
        shown = amixer(card, "sget", name)
        assert re.search(rf"Capabilities: {short}volume {short}switch {short}switch-joined$", shown, re.MULTILINE)
        assert f"Limits: {direction} 0 - 121" in shown
        # A card that nobody has seen before leaves the sound alone.
        assert shown.count("121 [100%] [0.00dB] [on]") == 2
    for setting, found in [
        (["50%"], "60 [50%] [-30.50dB] [on]"),
        (["--", "-6dB"], "109 [90%] [-6.00dB] [on]"),
        (["--", "1dB-"], "107 [88%] [-7.00dB] [on]"),
        (["mute"], "107 [88%] [-7.00dB] [off]"),
        (["0%"], "0 [0%] [-99999.99dB] [off]"),
        (["toggle"], "0 [0%] [-99999.99dB] [on]"),
        (["1"], "1 [1%] [-60.00dB] [on]"),
    ]:
        assert amixer(card, "sset", "Master", *setting).count(found) == 2, setting
    amixer(card, "sset", "Master", "10,20")
    assert values(card, "Master Playback Volume") == [10, 20]
    assert "dBscale-min=-60.50dB,step=0.50dB,mute=1" in amixer(card, "cget", "name=Capture Volume")


@pytest.mark.parametrize("format", TYPES)
def test_playback_volume(music, real, format):
    layout = Layout(format)
    sound = loud_noise(layout, 24000 // 480 * 480)

    def play():
        recorder = alsa_tools.Recorder(real.far_end, layout)
        alsa_tools.play(music.pcm, sound, period=480, buffer=1920)
        return recorder

    for decibels in (-6, -20):
        amixer(music, "sset", "Master", "--", f"{decibels}dB")
        expect_louder(sound, play().finish(), decibels)
    amixer(music, "sset", "Master", "mute")
    assert not any(play().finish().data)
    amixer(music, "sset", "Master", "0dB", "unmute")
    result = play().compare(sound)
    assert result.exact, str(result)


def test_capture_volume(music, real):
    layout = Layout()
    # snd-aloop plays on behind the end: the silence keeps that away from the sound.
    sound = loud_noise(layout, 24000 // 480 * 480).then_silence(4800)

    def record():
        recorder = alsa_tools.Recorder(music.pcm, layout, period=480, buffer=1920)
        alsa_tools.play(real.far_end, sound, period=480, buffer=4800)
        return recorder

    amixer(music, "cset", "name=Capture Volume", "97")
    expect_louder(sound, record().finish(), -12)
    amixer(music, "cset", "name=Capture Switch", "off")
    assert not any(record().finish().data)
    amixer(music, "cset", "name=Capture Switch", "on")
    amixer(music, "cset", "name=Capture Volume", "121")
    result = record().compare(sound)
    assert result.arrived, str(result)


def test_volume_moves_while_sound_plays(music, real):
    """No step is larger than that of a ramp of 5 ms, and none is left out."""
    layout = Layout(channels=1)
    level = 20000
    sound = Sound(layout, level.to_bytes(2, "little") * 96000)
    recorder = alsa_tools.Recorder(real.far_end, layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=4800)
    wait_until(lambda: recorder.frames() > 0 and any(recorder.newest(4800)), "the sound")
    for setting in ("-20dB", "-6dB", "0dB"):
        before = recorder.frames()
        amixer(music, "sset", "Master", "--", setting)
        recorder.wait_for(before + 14400)
    player.finish()
    heard = numpy.frombuffer(recorder.finish().data, "<i2").astype(int)
    heard = heard[numpy.flatnonzero(heard)[0] :][: sound.frames]
    steps = numpy.abs(numpy.diff(heard))
    assert steps.max() <= level / 240 + 1
    wanted = [level, round(level * 0.1), round(level * 10**-0.3)]
    assert all(numpy.count_nonzero(heard == value) > 4800 for value in wanted)


def test_alsactl_stores_and_restores(make_card, tmp_path):
    card = make_card("music", "--host", "null", "--channels", "2")
    state = tmp_path / "state"
    kept = {"Master Playback Volume": [30, 40], "Master Playback Switch": [0], "Capture Volume": [7, 8]}
    for name, wanted in kept.items():
        amixer(card, "cset", f"name={name}", ",".join(map(str, wanted)))
    programs.run("alsactl", "--file", state, "store", card.name)
    for name in kept:
        amixer(card, "cset", f"name={name}", "1")
        assert values(card, name) == [1] * len(kept[name])
    programs.run("alsactl", "--file", state, "restore", card.name)
    assert {name: values(card, name) for name in kept} == kept


@pytest.fixture
def nothing_stored():
    """What alsactl stores is for this test alone."""
    yield
    pathlib.Path("/var/lib/alsa/asound.state").unlink(missing_ok=True)


@pytest.mark.usefixtures("nothing_stored")
def test_what_is_stored_comes_back_with_a_card_of_the_name(make_card):
    card = make_card("music", "--host", "null", "--channels", "2")
    amixer(card, "cset", "name=Master Playback Volume", "30,40")
    another = make_card("phone", "--host", "null", "--channels", "2")
    amixer(another, "cset", "name=Master Playback Volume", "50")
    programs.run("alsactl", "store")
    amixer(another, "cset", "name=Master Playback Volume", "60")
    card.destroy()
    card = make_card("music", "--host", "null", "--channels", "2")
    wait_until(lambda: values(card, "Master Playback Volume") == [30, 40], "what is stored")
    assert values(another, "Master Playback Volume") == [60, 60], "it is not that card which has come"


def test_a_card_that_udev_comes_too_late_for_leaves_the_volume_of_others_alone(make_card):
    """alsa-utils' rule would then run alsactl without a number: every card that nobody has stored at -20 dB."""
    music, phone = (make_card(name, "--host", "null", "--channels", "2") for name in ("music", "phone"))
    control = next(pathlib.Path("/sys/class/sound", node) for node in phone.nodes() if node.startswith("control"))
    of_udev = pathlib.Path("/run/udev/data", f"c{(control / 'dev').read_text().strip()}")
    wait_until(of_udev.exists, "udev to have seen to the card")
    amixer(music, "cset", "name=Master Playback Volume", "100")
    signal_udev(signal.SIGSTOP)
    try:
        (control / "uevent").write_text("add")
        phone.destroy()
    finally:
        signal_udev(signal.SIGCONT)
    wait_until(lambda: not of_udev.exists(), "udev to have seen that it has come and gone")
    assert values(music, "Master Playback Volume") == [100, 100]


def signal_udev(number):
    """Not by pkill, which would be read from the host's disk."""
    for pid in programs.pids_of("systemd-udevd"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Monitor(Program):
    """`alsactl monitor` on a card: a line for each change."""

    def __init__(self, card):
        super().__init__("stdbuf", "-oL", "alsactl", "monitor", f"hw:{card}")
        wait_until(self.listens, "alsactl monitor")

    def listens(self):
        return any(target.startswith("/dev/snd/control") for target in self.links().values())


def test_changes_are_told(make_card):
    card = make_card("music", "--host", "null", "--channels", "2")
    monitor = Monitor(card.name)
    amixer(card, "cset", "name=Master Playback Volume", "60")
    wait_until(lambda: "Master Playback Volume" in monitor.output(), "the change")
    lines = len(monitor.output().splitlines())
    # The same value again is no change.
    amixer(card, "cset", "name=Master Playback Volume", "60")
    amixer(card, "cset", "name=Capture Switch", "off")
    wait_until(lambda: "Capture Switch" in monitor.output(), "the change")
    assert len(monitor.output().splitlines()) == lines + 1, monitor.output()


DESK = """
[[stream]]
direction = "playback"
host = "null"

[[stream]]
direction = "capture"
host = "null"

[[control]]
name = "Master Playback Volume"
kind = "volume"
streams = [0]
mixer = { card = "hw:desk", element = "Master Volume" }

[[control]]
name = "Mic Capture Switch"
kind = "mute"
streams = [1]
mixer = { card = "hw:desk", element = "Mic Capture Switch" }

[[control]]
name = "Capture Source"
kind = "source"
streams = [1]
mixer = { card = "hw:desk", element = "External I/O Box" }
"""


@pytest.fixture
def desk():
    """A real card with a mixer: snd-dummy, whose volumes go from -50 to 100."""
    programs.run("modprobe", "snd-dummy", "id=desk")
    yield
    programs.run("modprobe", "-r", "snd-dummy")


@pytest.fixture
def mirror(desk, make_card, tmp_path):
    (tmp_path / "desk.toml").write_text(DESK)
    return make_card("music", "--card", tmp_path / "desk.toml")


class Desk:
    """The real card, for amixer()."""

    name = "desk"


def test_real_elements_are_shown_as_they_are(mirror):
    volume = amixer(mirror, "cget", "name=Master Playback Volume")
    assert "type=INTEGER,access=rw---R--,values=2,min=0,max=150,step=0" in volume
    assert "dBscale-min=-45.00dB,step=0.30dB,mute=0" in volume
    source = amixer(mirror, "cget", "name=Capture Source")
    items = re.findall(r"; Item #\d '(.*)'", source)
    assert items == re.findall(r"; Item #\d '(.*)'", amixer(Desk, "cget", "name=External I/O Box"))
    assert len(items) == 2


def test_real_elements_take_what_is_written(mirror):
    for wanted, real in [([0, 150], [-50, 100]), ([77, 50], [27, 0])]:
        amixer(mirror, "cset", "name=Master Playback Volume", ",".join(map(str, wanted)))
        assert values(mirror, "Master Playback Volume") == wanted
        wait_until(lambda real=real: values(Desk, "Master Volume") == real, f"the real volume: {real}")
    amixer(mirror, "cset", "name=Mic Capture Switch", "1,0")
    wait_until(lambda: values(Desk, "Mic Capture Switch") == [1, 0], "the real switch")
    amixer(mirror, "cset", "name=Capture Source", "0")
    wait_until(lambda: values(Desk, "External I/O Box") == [0], "the real source")


def test_real_elements_are_followed(mirror):
    monitor = Monitor(mirror.name)
    amixer(Desk, "cset", "name=Master Volume", "--", "-10,20")
    wait_until(lambda: "Master Playback Volume" in monitor.output(), "the change")
    assert values(mirror, "Master Playback Volume") == [40, 70]
    amixer(Desk, "cset", "name=External I/O Box", "0")
    wait_until(lambda: "Capture Source" in monitor.output(), "the change")
    assert values(mirror, "Capture Source") == [0]
    assert len(monitor.output().splitlines()) == 2, monitor.output()


def test_a_real_mixer_goes_away_and_comes_back(mirror):
    amixer(mirror, "cset", "name=Master Playback Volume", "100,100")
    wait_until(lambda: values(Desk, "Master Volume") == [50, 50], "the real volume")
    unbind = "/sys/bus/platform/drivers/snd_dummy/unbind"
    bind = "/sys/bus/platform/drivers/snd_dummy/bind"
    programs.run("sh", "-c", f"echo snd_dummy.0 > {unbind}")
    wait_until(lambda: "away" in mirror.device.output(), "the log")
    assert values(mirror, "Master Playback Volume") == [100, 100]
    amixer(mirror, "cset", "name=Master Playback Volume", "90,80")
    programs.run("sh", "-c", f"echo snd_dummy.0 > {bind}")
    wait_until(lambda: "is back" in mirror.device.output(), "the log")
    assert values(Desk, "Master Volume") == [40, 30]
    assert mirror.device.output().count("away") == 1


def test_a_guard_replaces_a_process_while_the_real_mixer_is_away(desk, make_card, tmp_path):
    """The next one knows what the elements are from its guard, and their values from the last one."""
    (tmp_path / "desk.toml").write_text(DESK)
    card = make_card("music", "--card", tmp_path / "desk.toml", kind=RespawnedCard)
    amixer(card, "cset", "name=Master Playback Volume", "100,100")
    wait_until(lambda: values(Desk, "Master Volume") == [50, 50], "the real volume")
    programs.run("sh", "-c", "echo snd_dummy.0 > /sys/bus/platform/drivers/snd_dummy/unbind")
    wait_until(lambda: "its mixer is away" in card.device.output(), "the log")
    card.end_device(signal.SIGKILL)
    assert "keep their last values until it is there" in card.device.output()
    assert values(card, "Master Playback Volume") == [100, 100]
    programs.run("sh", "-c", "echo snd_dummy.0 > /sys/bus/platform/drivers/snd_dummy/bind")
    wait_until(lambda: "is back" in card.device.output(), "the log")
    wait_until(lambda: values(Desk, "Master Volume") == [50, 50], "the real volume")
    assert values(card, "Master Playback Volume") == [100, 100]


@pytest.mark.parametrize(
    "change, said",
    [
        (("hw:desk", "hw:nobody"), "card hw:nobody"),
        (("Master Volume", "No Such Volume"), "element 'No Such Volume'"),
        (("Master Volume", "Mic Capture Switch"), "element 'Mic Capture Switch' is no volume"),
    ],
)
def test_what_is_not_there_ends_the_program(desk, tmp_path, change, said):
    (tmp_path / "desk.toml").write_text(DESK.replace(*change))
    program = programs.path_of("vhost-user-sound")
    result = programs.run(program, "--card", tmp_path / "desk.toml", "--socket-path", tmp_path / "s", check=False)
    assert result.returncode == 1
    assert said in result.stderr
