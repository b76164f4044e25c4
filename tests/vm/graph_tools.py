# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""pw-cat in the graph of a sound server: records what a node plays, plays what a node is to capture."""

import array
import pathlib
import signal
import struct
import tempfile

from programs import Program, wait_until
from sounds import Sound
from wave_compare import compare

PW_CAT = "/usr/bin/pw-cat"
# Ports without a session manager that asks for them; links are the test's.
PROPERTIES = "{{ node.name = {}, adapter.auto-port-config = {{ mode = dsp }} }}"
# ALSA's usual order of channels.
POSITIONS = {1: ["MONO"], 2: ["FL", "FR"], 6: ["FL", "FR", "RL", "RR", "FC", "LFE"]}
FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
# Bits of a sample, by ALSA's name of its format. What is played is 32-bit floats in the graph: 24 bits
# of a sample pass exactly.
BITS = {"U8": 8, "S16_LE": 16, "S24_3LE": 24, "S24_LE": 24, "S32_LE": 32}


def to_floats(sound):
    """The samples as the graph has them."""
    bits, bytes_ = BITS[sound.layout.format], sound.layout.frame_bytes // sound.layout.channels
    half = 1 << (bits - 1)
    samples = (
        int.from_bytes(sound.data[at : at + bytes_], "little") for at in range(0, len(sound.data), bytes_)
    )
    if sound.layout.format == "U8":
        return array.array("f", ((sample - half) / half for sample in samples))
    return array.array("f", (((sample + half) % (2 * half) - half) / half for sample in samples))


def to_samples(floats, layout):
    """Floats of the graph as samples of `layout`."""
    bits, bytes_ = BITS[layout.format], layout.frame_bytes // layout.channels
    half = 1 << (bits - 1)
    offset = half if layout.format == "U8" else 0
    mask = (1 << 8 * bytes_) - 1 if layout.format != "S24_LE" else 0xFFFFFF
    return b"".join(((round(value * half) + offset) & mask).to_bytes(bytes_, "little") for value in floats)


def write_wav(path, floats, layout):
    data = floats.tobytes()
    frame = 4 * layout.channels
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, FLOAT, layout.channels,
                         layout.rate, layout.rate * frame, frame, 32, b"data", len(data))
    pathlib.Path(path).write_bytes(header + data)


def read_wav(path):
    """The floats in a WAV file, whose header may not know yet how many they are."""
    data = pathlib.Path(path).read_bytes()
    at = data.find(b"data")
    samples = data[at + 8 :] if at >= 0 else b""
    return array.array("f", samples[: len(samples) // 4 * 4])


class GraphRecorder(Program):
    """Records what `node` plays; it is recording once this exists."""

    buffer = 0  # frames that may be heard again from it, as from a real card's

    def __init__(self, server, node, layout):
        self.layout = layout
        self._file = tempfile.NamedTemporaryFile(suffix=".wav")
        super().__init__(
            PW_CAT, "--record", "--target", "0", "--latency", "1024", "--format", "f32",
            "--rate", layout.rate, "--channels", layout.channels, "--channel-map", ",".join(POSITIONS[layout.channels]),
            "-P", PROPERTIES.format("recorder"), self._file.name,
        )
        server.link(node, "recorder")
        wait_until(lambda: self.frames() > 0 or not self.running(), f"pw-cat on {node}: a first frame")
        assert self.running(), self.output()

    def frames(self):
        try:
            return max(0, pathlib.Path(self._file.name).stat().st_size - 80) // (4 * self.layout.channels)
        except FileNotFoundError:
            return 0

    def wait_for(self, frames):
        """Waits until so many more frames have been recorded."""
        end = self.frames() + frames
        wait_until(lambda: self.frames() >= end or not self.running(), "pw-cat: more frames",
                   frames / self.layout.rate + 20)

    def finish(self, tail=0.3):
        """Records `tail` more seconds, ends, and returns the recording."""
        self.wait_for(int(tail * self.layout.rate))
        self.send(signal.SIGINT)
        self.wait()
        return self.recorded()

    def recorded(self):
        """What is recorded so far."""
        return Sound(self.layout, to_samples(read_wav(self._file.name), self.layout))

    def compare(self, sound):
        """Ends, and compares what was recorded with what was played."""
        received = self.finish()
        layout = sound.layout
        return compare(sound.data, received.data, layout.frame_bytes, layout.silent_byte)


class GraphPlayer(Program):
    """Plays a sound to `node`, once. A second of silence goes before it, in which the channels are linked
    one after another. All of it is to be whole cycles of the graph: the last, if it is short, comes late."""

    SILENT_FRAMES = 48 * 1024

    def __init__(self, server, node, sound):
        self._file = tempfile.NamedTemporaryFile(suffix=".wav")
        layout = sound.layout
        silence = array.array("f", bytes(4 * layout.channels * self.SILENT_FRAMES))
        write_wav(self._file.name, silence + to_floats(sound), layout)
        super().__init__(
            PW_CAT, "--playback", "--target", "0", "--latency", "1024",
            "-P", PROPERTIES.format("player"), self._file.name,
        )
        server.link("player", node)
