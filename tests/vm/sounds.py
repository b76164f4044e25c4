# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Sounds to play: a noise that never repeats itself, and recordings of real ones."""

import dataclasses
import pathlib
import random
import subprocess
import wave

import programs

SPEECH = pathlib.Path("/usr/share/sounds/alsa")  # of the package alsa-utils

# ALSA's name of a format: bytes of a sample, what sox calls it.
FORMATS = {
    "U8": (1, ["-e", "unsigned-integer", "-b", "8"]),
    "S16_LE": (2, ["-e", "signed-integer", "-b", "16"]),
    "S24_3LE": (3, ["-e", "signed-integer", "-b", "24"]),
    "S24_LE": (4, None),
    "S32_LE": (4, ["-e", "signed-integer", "-b", "32"]),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the bytes of a sound mean."""

    format: str = "S16_LE"
    channels: int = 2
    rate: int = 48000

    @property
    def frame_bytes(self):
        return FORMATS[self.format][0] * self.channels

    @property
    def silent_byte(self):
        return 0x80 if self.format == "U8" else 0

    @property
    def alsa_options(self):
        return ["-t", "raw", "-f", self.format, "-c", str(self.channels), "-r", str(self.rate)]


@dataclasses.dataclass(frozen=True)
class Sound:
    """Samples in memory."""

    layout: Layout
    data: bytes

    @property
    def frames(self):
        return len(self.data) // self.layout.frame_bytes

    @property
    def seconds(self):
        return self.frames / self.layout.rate

    def then_silence(self, frames):
        silence = bytes([self.layout.silent_byte]) * (frames * self.layout.frame_bytes)
        return Sound(self.layout, self.data + silence)

    def whole_periods(self, period):
        """The same sound, cut to whole periods. aplay fills up a part of one with silence."""
        frames = self.frames // period * period
        return Sound(self.layout, self.data[: frames * self.layout.frame_bytes])


def noise(layout, frames, seed=1):
    """A sound without any repetition, so that each lost, moved or repeated frame shows.

    Its first byte is never silent: the comparison looks for it.
    """
    data = bytearray(random.Random(seed).randbytes(frames * layout.frame_bytes))
    data[0] = 0x55
    if layout.format == "S24_LE":
        # The fourth byte carries no sample.
        data[3::4] = bytes(len(data) // 4)
    return Sound(layout, bytes(data))


def write_wav(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setparams((sound.layout.channels, FORMATS[sound.layout.format][0], sound.layout.rate, 0, "NONE", ""))
        file.writeframes(sound.data)


def read_wav(path):
    """Bytes of a sample, channels and rate; and the samples."""
    with wave.open(str(path)) as file:
        layout = (file.getsampwidth(), file.getnchannels(), file.getframerate())
        return layout, file.readframes(file.getnframes())


def recording(path, layout):
    """A real recording, converted to `layout` without dither."""
    _, encoding = FORMATS[layout.format]
    options = [*encoding, "-c", str(layout.channels), "-r", str(layout.rate)]
    command = ["sox", "-D", "-V1", str(path), "-t", "raw", *options, "-"]
    return Sound(layout, subprocess.run(command, check=True, capture_output=True, **programs.place("sox")).stdout)


def pack_s24(data):
    """24-bit samples in 4 bytes each, as 3 bytes each."""
    packed = bytearray(len(data) // 4 * 3)
    for byte in range(3):
        packed[byte::3] = data[byte::4]
    return bytes(packed)
