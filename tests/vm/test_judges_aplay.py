# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judges are aplay and arecord as users run them: through plughw, with and without --mmap, at
odd rates, paused by a key, on cards that can do less than the sound needs."""

import array
import os
import pty
import time

import alsa_tools
import pytest
import sounds
from programs import Program, wait_until
from sounds import Layout
from wave_compare import compare

RATES = [5512, 8000, 11025, 16000, 22050, 32000, 64000, 88200, 96000, 176400, 192000]
FORMATS = ["U8", "S16_LE", "S24_3LE", "S32_LE"]
# Every rate once, with the formats, accesses and channels in turn.
ODD = [
    {"rate": rate, "format": FORMATS[at % 4], "access": ["write", "mmap"][at // 2 % 2], "channels": at % 3 + 1}
    for at, rate in enumerate(RATES)
]


def name_of(row):
    return "-".join(str(value) for value in row.values())


@pytest.mark.parametrize("row", ODD, ids=name_of)
def test_odd_rates_through_plughw(make_card, tmp_path, row):
    """What the card can do is not touched by plug on its way, there and back."""
    layout = Layout(row["format"], row["channels"], row["rate"])
    period = layout.rate // 50
    captured = sounds.noise(layout, 10 * period)
    sounds.write_wav(tmp_path / "in.wav", captured)
    files = ["--playback-file", tmp_path / "out.wav", "--capture-file", tmp_path / "in.wav"]
    card = make_card("music", "--host", "file", *files)
    mmap = row["access"] == "mmap"

    sound = sounds.noise(layout, 16 * period, seed=2)
    alsa_tools.play("plughw:music", sound, period=period, buffer=4 * period, mmap=mmap)
    recorder = alsa_tools.Recorder("plughw:music", layout, period=period, buffer=4 * period, mmap=mmap)
    recorder.wait_for(captured.frames)
    result = compare(captured.data, recorder.finish().data, layout.frame_bytes, layout.silent_byte)
    assert result.exact and result.start == 0, str(result)
    card.destroy()
    written, data = sounds.read_wav(tmp_path / "out.wav")
    assert written == (layout.frame_bytes // layout.channels, layout.channels, layout.rate)
    assert data == sound.data


def as_s16(sound):
    """The sound's upper 16 bits."""
    if sound.layout.format == "U8":
        return array.array("h", ((byte - 0x80) << 8 for byte in sound.data)).tobytes()
    if sound.layout.format == "S24_3LE":
        return b"".join(sound.data[at + 1 : at + 3] for at in range(0, len(sound.data), 3))
    return array.array("h", (sample >> 16 for sample in array.array("i", sound.data))).tobytes()


@pytest.mark.parametrize("format, mmap", [("U8", False), ("S24_3LE", True), ("S32_LE", False)])
def test_formats_that_the_card_has_not(make_card, tmp_path, format, mmap):
    limits = ["--formats", "S16", "--rates", "48000", "--channels", "2"]
    card = make_card("music", "--host", "file", "--playback-file", tmp_path / "out.wav", *limits)
    sound = sounds.noise(Layout(format, 2, 48000), 20 * 960)
    alsa_tools.play("plughw:music", sound, period=960, buffer=3840, mmap=mmap)
    card.destroy()
    assert sounds.read_wav(tmp_path / "out.wav") == ((2, 2, 48000), as_s16(sound))


@pytest.mark.parametrize("rate", [12000, 24000])
def test_rates_that_virtio_has_not(make_card, tmp_path, rate):
    """plug converts them to a rate that the card has; a second stays a second."""
    card = make_card("music", "--host", "file", "--playback-file", tmp_path / "out.wav")
    alsa_tools.play("plughw:music", sounds.noise(Layout("S16_LE", 2, rate), rate), period=rate // 50, buffer=rate // 10)
    card.destroy()
    (_, channels, written), data = sounds.read_wav(tmp_path / "out.wav")
    assert channels == 2 and written in [*RATES, 44100, 48000]
    assert abs(len(data) // 4 / written - 1) <= 0.03, "more than a period is missing, or too much"


class Keyboard:
    """A terminal at which nobody but the test presses keys."""

    def __init__(self):
        self._keys, self.terminal = pty.openpty()

    def press(self, key):
        os.write(self._keys, key)

    def close(self):
        os.close(self._keys)
        os.close(self.terminal)


@pytest.fixture
def keyboard():
    keyboard = Keyboard()
    yield keyboard
    keyboard.close()


def size(path):
    return path.stat().st_size if path.exists() else 0


def pause(program, keyboard, path):
    """Presses the key for a pause while sound comes into a file, and waits. Nothing may come then."""
    before = program.output().count("PAUSE")
    keyboard.press(b" ")
    wait_until(lambda: program.output().count("PAUSE") > before, "the pause")
    assert "ignored" not in program.output(), program.output()
    time.sleep(0.3)
    standing = size(path)
    time.sleep(0.5)
    assert size(path) == standing, "sound in the pause"
    keyboard.press(b" ")


@pytest.mark.parametrize("mmap", [[], ["--mmap"]], ids=["write", "mmap"])
def test_playback_paused(make_card, tmp_path, keyboard, mmap):
    """Three pauses, and not a frame is lost or heard twice."""
    out, sound = tmp_path / "out.wav", sounds.noise(Layout(), 100 * 960)
    card = make_card("music", "--host", "file", "--playback-file", out)
    (tmp_path / "sound.raw").write_bytes(sound.data)
    command = ["aplay", "-i", "-D", "hw:music", *sound.layout.alsa_options, "--period-size", 960, "--buffer-size", 3840]
    player = Program(*command, *mmap, "--samples", sound.frames, tmp_path / "sound.raw", stdin=keyboard.terminal)
    for quarter in (1, 2, 3):
        wait_until(lambda: size(out) >= quarter * len(sound.data) // 4, "sound", 20)
        pause(player, keyboard, out)
    assert player.wait(20) == 0, player.output()
    assert "underrun" not in player.output(), player.output()
    card.destroy()
    assert sounds.read_wav(out)[1] == sound.data


def test_capture_paused(make_card, tmp_path, keyboard):
    """A recording that pauses goes on with the next frame of the captured file."""
    layout, recorded = Layout(), tmp_path / "recorded.raw"
    captured = sounds.noise(layout, 100 * 960)
    sounds.write_wav(tmp_path / "in.wav", captured)
    make_card("music", "--host", "file", "--capture-file", tmp_path / "in.wav")
    command = ["arecord", "-i", "-D", "hw:music", *layout.alsa_options, "--period-size", 960, "--buffer-size", 3840]
    recorder = Program(*command, "--samples", captured.frames, recorded, stdin=keyboard.terminal)
    wait_until(lambda: size(recorded) >= len(captured.data) // 4, "sound", 20)
    pause(recorder, keyboard, recorded)
    assert recorder.wait(20) == 0, recorder.output()
    assert recorded.read_bytes() == captured.data
