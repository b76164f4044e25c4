# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""aplay and arecord, as a user runs them."""

import dataclasses
import pathlib
import re
import signal
import tempfile

import linux
from programs import Program, wait_until
from sounds import Sound
from wave_compare import compare

# Before 6.12, virtio_snd hands the whole buffer over at the start and each period again when it has
# been played: when the last one has, the device already plays on, as a real card's DMA does, what lies
# behind it, until the driver stops it. There, silence is put behind each sound, and may come out.
PLAYS_ON = linux.VERSION < (6, 12)


class Player(Program):
    """aplay, playing a sound."""

    def __init__(self, device, sound, period=None, buffer=None, mmap=False, prefix=()):
        self._file = tempfile.NamedTemporaryFile(suffix=".raw")  # goes with this object
        if PLAYS_ON:
            sound = sound.then_silence(buffer or sound.layout.rate // 2)
        self._file.write(sound.data)
        self._file.flush()
        # Without a count, aplay adds a period of silence at the end of a file of samples.
        options = ["--samples", sound.frames]
        options += ["--period-size", period] if period else []
        options += ["--buffer-size", buffer] if buffer else []
        options += ["--mmap"] if mmap else []
        self.seconds = sound.seconds
        super().__init__(*prefix, "aplay", "-v", "-D", device, *sound.layout.alsa_options, *options, self._file.name)

    def finish(self, spare=20.0):
        """Waits for the end. Nothing may have gone wrong, and no underrun have happened."""
        assert self.wait(self.seconds + spare) == 0, self.output()
        assert "underrun" not in self.output(), self.output()
        return self

    def parameter(self, name):
        """A figure of what ALSA agreed to, e.g. period_size."""
        return int(re.search(rf"^\s*{name}\s*: (\d+)", self.output(), re.MULTILINE)[1])


def play(device, sound, **options):
    """Plays a sound to its end."""
    return Player(device, sound, **options).finish()


class Recorder(Program):
    """arecord, which is recording once this exists. `separate`: not interleaved, as PipeWire plays;
    the two ends of a real card's cable have to be alike."""

    def __init__(self, device, layout, period=None, buffer=None, mmap=False, separate=False, prefix=()):
        self.buffer = buffer or layout.rate
        self._folder = tempfile.TemporaryDirectory()  # goes with this object
        self._file = pathlib.Path(self._folder.name, "recorded.raw")
        options = ["--period-size", period] if period else ["--period-size", layout.rate // 50]
        options += ["--buffer-size", self.buffer]
        options += ["--mmap"] if mmap else []
        options += ["--separate-channels"] if separate else []
        super().__init__(*prefix, "arecord", "-v", "-D", device, *layout.alsa_options, *options, self._file)
        if separate:  # looked at is the first
            layout, self._file = dataclasses.replace(layout, channels=1), self._file.with_suffix(".raw.0")
        self.layout = layout
        wait_until(lambda: self.frames() > 0 or not self.running(), f"arecord on {device}: a first frame")
        assert self.running(), self.output()

    def frames(self):
        try:
            return self._file.stat().st_size // self.layout.frame_bytes
        except FileNotFoundError:
            return 0  # arecord makes the file anew

    def newest(self, frames):
        """The last frames that were recorded."""
        return self._file.read_bytes()[-frames * self.layout.frame_bytes :]

    def wait_for(self, frames):
        wait_until(
            lambda: self.frames() >= frames or not self.running(),
            f"arecord: {frames} frames",
            frames / self.layout.rate + 20,
        )

    def finish(self, tail=0.2):
        """Records `tail` more seconds, ends, and returns the recording."""
        wanted = self.frames() + int(tail * self.layout.rate)
        wait_until(lambda: self.frames() >= wanted or not self.running(), "arecord: the tail", tail + 20)
        self.send(signal.SIGINT)
        self.wait()
        assert "overrun" not in self.output(), self.output()
        assert f": {self.buffer}" in self.output(), f"the buffer is not {self.buffer}:\n{self.output()}"
        return self.recorded()

    def recorded(self):
        """What is recorded so far."""
        return Sound(self.layout, self._file.read_bytes())

    def compare(self, sound, **keywords):
        """Ends, and compares what was recorded with what was played."""
        received = self.finish(**keywords)
        return compare(
            sound.data, received.data, self.layout.frame_bytes, self.layout.silent_byte, recorder_frames=self.buffer
        )


def difference(expected, received, frame_bytes):
    """Says what is wrong with sound that should start and end at once; None if nothing is."""
    if PLAYS_ON:
        behind = received[len(expected) :]
        if not behind.strip(b"\x00") or not behind.strip(b"\x80"):
            received = received[: len(expected)]
    if expected == received:
        return None
    frame = next(
        (
            start
            for start in range(0, len(expected), frame_bytes)
            if expected[start : start + frame_bytes] != received[start : start + frame_bytes]
        ),
        len(expected),
    )
    return (
        f"{len(expected) // frame_bytes} frames in, {len(received) / frame_bytes:g} out, "
        f"first difference at frame {frame // frame_bytes}"
    )
