# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The demo's first act, inside the virtual machine.

Makes a card of each recording's name, plays all of them at the same time, each on a real card of
its own, and leaves what reached the real cards, and the counters, in the folder of the recordings.
"""

import json
import pathlib
import re
import time
import wave

import alsa_tools
import programs
from card import Card
from real_card import RealCard
from sounds import Layout

FORMATS = {1: "U8", 2: "S16_LE", 3: "S24_3LE", 4: "S32_LE"}


def say(text):
    print(f"   {text}", flush=True)


def layout_of(path):
    with wave.open(str(path)) as file:
        return Layout(FORMATS[file.getsampwidth()], file.getnchannels(), file.getframerate())


class Place:
    """One card with its file, its device process, its real card and the recorder behind that."""

    def __init__(self, file, real):
        self.name, self.file, self.real = file.stem, file, real
        self.card = Card(self.name, "--host", "alsa", "--playback-device", real.device)
        # The player reads its file from memory, as from any disk that is fast enough.
        self.copy = pathlib.Path("/tmp", file.name)
        self.copy.write_bytes(file.read_bytes())
        self.player = self.recorder = None

    def record(self):
        self.recorder = alsa_tools.Recorder(self.real.far_end, layout_of(self.copy))

    def play(self):
        say(f"aplay -D hw:{self.name} {self.file.name}")
        self.player = programs.Program("aplay", "-D", f"hw:{self.name}", self.copy)

    def finish(self):
        status = self.player.wait(120)
        if status:
            raise SystemExit(f"aplay -D hw:{self.name}: exit status {status}\n{self.player.output()}")

    def result(self):
        recording = self.recorder.finish()
        self.file.with_suffix(".recorded").write_bytes(recording.data)
        counters = {name: self.card.counter(name) for name in ("kicks", "calls")}
        device = self.card.device
        self.card.destroy()
        gaps = re.findall(r"(\d+) gaps", device.output())
        underruns = self.player.output().count("underrun") + self.recorder.output().count("overrun")
        return {**counters, "xruns": underruns + sum(map(int, gaps)), "recorder_frames": self.recorder.buffer}


def play(folder):
    files = sorted(pathlib.Path(folder).glob("*.wav"))
    places = [Place(file, RealCard(f"real{number}")) for number, file in enumerate(files)]
    for place in places:
        say(f"card {place.name}: vhost-user-sound plays on {place.real.device}, virtio-loopback connects it")
        place.card.start()
    say("aplay -l")
    for line in programs.run("aplay", "-l").stdout.splitlines():
        if re.match(r"card .* device 0:", line):
            say(f"   {line}")
    for place in places:
        place.record()
    start = time.monotonic()
    for place in places:
        place.play()
    for place in places:
        place.finish()
    say(f"both have played, {time.monotonic() - start:.1f} s by the guest's clock")
    results = {place.name: place.result() for place in places}
    pathlib.Path(folder, "counters.json").write_text(json.dumps(results))
