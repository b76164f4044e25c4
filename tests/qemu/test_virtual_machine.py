# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The same vhost-user-sound serves a real virtual machine: QEMU's vhost-user-snd-pci, a stock
virtio_snd inside, and here, outside, the file and loop hosts.

One boot does all of it: the guest plays and records (guest.py), the tests look at what became of it.
Nothing here depends on speed. A file takes what is played, and gives what is captured, when the
guest is ready. Where both directions meet, in the loop host, all sound is queued before it starts.
"""

import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time
import wave

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
GUEST = TESTS / "qemu" / "guest.py"
sys.path.insert(0, str(TESTS / "vm"))
import wave_compare  # noqa: E402

MEMORY = "5G"  # more than lies below the hole for PCI, so that there are several regions
SAMPLE_BYTES = {"S16_LE": 2, "S24_3LE": 3, "S32_LE": 4}


@dataclasses.dataclass
class Task:
    """Something the guest does on one card."""

    name: str
    do: str
    slot: str
    format: str = "S16_LE"
    channels: int = 2
    rate: int = 48000
    period: int = 12000
    buffer: int = 192000
    frames: int = 0  # of the sound that the guest plays, or that a file gives
    record: int = 0  # frames that the guest records
    elements: dict = dataclasses.field(default_factory=dict)  # what to set of simple mixer elements
    sound: str = ""
    recording: str = ""

    @property
    def frame_bytes(self):
        return SAMPLE_BYTES[self.format] * self.channels

    @property
    def data(self):
        """Noise, the same at each call, that does not begin with silence."""
        return b"\x55" + random.Random(self.name).randbytes(self.frames * self.frame_bytes - 1)


FILE, LOOP = "10", "11"  # PCI slots
FULL = Task("full volume", "mix", FILE, elements={"Master": ["100%", "unmute"], "Capture": ["100%", "cap"]})
LONG = Task("16 periods of many pages", "play", FILE, frames=20 * 12000)
TWO = Task("two periods of a second", "play", FILE, period=48000, buffer=96000, frames=3 * 48000)
SIX = Task("six channels", "play", FILE, format="S32_LE", channels=6, rate=44100, period=22050, buffer=176400,
           frames=4 * 22050)
RECORDED = Task("record", "record", FILE, format="S24_3LE", channels=1, rate=44100, period=22050, buffer=352800,
                frames=100000, record=6 * 22050)
MUTE = Task("mute", "mix", FILE, elements={"Master": ["mute"]})
MUTED = Task("muted", "play", FILE, rate=44100, period=22050, buffer=88200, frames=3 * 22050)
BOTH = Task("play and record", "both", LOOP, period=18000, buffer=288000, frames=288000, record=720000)
TASKS = [FULL, LONG, TWO, SIX, RECORDED, MUTE, MUTED, BOTH]


class Device:
    """A vhost-user-sound of this machine."""

    def __init__(self, folder, slot, *options):
        self.socket = folder / f"{slot}.socket"
        self.socket.unlink(missing_ok=True)
        self._log = (folder / f"{slot}.log").open("a")
        program = pathlib.Path(os.environ["VIRTIO_LOOPBACK_BINARIES"]) / "vhost-user-sound"
        self.process = subprocess.Popen(
            [program, "--socket-path", self.socket, *options], stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, f"slot {slot}: nobody listens"
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0


def hardware(devices):
    """QEMU's options for shared memory and the sound cards."""
    options = ["-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on", "-numa", "node,memdev=mem"]
    for slot, device in devices.items():
        options += ["-chardev", f"socket,id=snd{slot},path={device.socket}"]
        options += ["-device", f"vhost-user-snd-pci,chardev=snd{slot},addr={slot},controls=on"]
    return " ".join(options)


def write_tasks(folder):
    for number, task in enumerate(TASKS):
        task.sound, task.recording = f"{folder}/{number}.raw", f"{folder}/{number}.recorded"
        if task.do in ("play", "both"):
            pathlib.Path(task.sound).write_bytes(task.data)
    (folder / "tasks.json").write_text(json.dumps([dataclasses.asdict(task) for task in TASKS]))


def write_wav(path, task):
    with wave.open(str(path), "wb") as file:
        file.setparams((task.channels, SAMPLE_BYTES[task.format], task.rate, 0, "NONE", ""))
        file.writeframes(task.data)


def read_wav(path):
    with wave.open(str(path)) as file:
        return (file.getnchannels(), file.getsampwidth(), file.getframerate()), file.readframes(file.getnframes())


@pytest.fixture(scope="session")
def outcome(tmp_path_factory):
    """The folder in which everything lies when the virtual machine has done its tasks."""
    folder = tmp_path_factory.mktemp("qemu")
    write_tasks(folder)
    write_wav(folder / "in.wav", RECORDED)
    devices = {
        FILE: Device(folder, FILE, "--host", "file", "--playback-file", folder / "out.wav",
                     "--capture-file", folder / "in.wav"),
        LOOP: Device(folder, LOOP, "--host", "loop", "--controls", "none"),
    }
    command = [TESTS / "harness" / "vm", "--kernel", "6.12", "--mode", "plain", "--memory", MEMORY, "--share", folder,
               "--hardware", hardware(devices), "--", "python", "-B", GUEST, folder]
    try:
        status = subprocess.run(command).returncode
        assert status == 0, "the virtual machine did not do its tasks"
        for device in devices.values():
            device.stop()
    finally:
        for device in devices.values():
            device.process.kill()
        for log in folder.glob("*.log"):
            print(f"-- {log.name}\n{log.read_text()}")
    return folder


def test_what_the_guest_plays_is_in_the_file(outcome):
    layout, data = read_wav(outcome / "out.wav")
    assert layout == (2, 2, 48000)
    assert data == LONG.data + TWO.data
    layout, data = read_wav(outcome / "out-2.wav")
    assert layout == (6, 4, 44100)
    assert data == SIX.data


def test_what_the_guest_mutes_is_silent(outcome):
    layout, data = read_wav(outcome / "out-3.wav")
    assert layout == (2, 2, 44100)
    assert data == bytes(len(MUTED.data))


def test_what_the_file_holds_is_what_the_guest_records(outcome):
    recorded = pathlib.Path(RECORDED.recording).read_bytes()
    assert len(recorded) == RECORDED.record * RECORDED.frame_bytes
    assert recorded[: len(RECORDED.data)] == RECORDED.data
    assert not recorded[len(RECORDED.data) :].strip(b"\0"), "sound behind the file's end"


def test_what_the_guest_plays_is_what_it_records(outcome):
    result = wave_compare.compare(BOTH.data, pathlib.Path(BOTH.recording).read_bytes(), BOTH.frame_bytes)
    assert result.exact, str(result)


def test_the_devices_complain_about_nothing_but_the_guests_pace(outcome):
    for slot in (FILE, LOOP):
        for line in (outcome / f"{slot}.log").read_text().splitlines():
            assert re.search(r" gaps? of \d+ frames in all$", line), line
