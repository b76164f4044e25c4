# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How small a period an application can have, with the options that are installed for virtio_snd."""

import pathlib
import re
import wave

import alsa_tools
import machine
import programs
import pytest
import sounds
from sounds import Layout

pytestmark = pytest.mark.core
NARROW = ["--formats", "S16", "--rates", "48000", "--channels", "2"]


def limits(card, name):
    """The least and the most that ALSA says it can do of something."""
    said = programs.run("aplay", "--dump-hw-params", "-D", card.pcm, "/dev/zero", "-d", "1", check=False).stderr
    found = re.search(rf"^{name}: [\[(]?(\d+)(?: (\d+))?", said, re.MULTILINE)
    assert found, said
    return int(found[1]), int(found[2] or found[1])


def test_the_driver_has_the_option_of_the_file():
    wanted = re.search(r"^options virtio_snd pcm_period_ms_min=(\d+)$", machine.OPTIONS.read_text(), re.MULTILINE)[1]
    assert pathlib.Path("/sys/module/virtio_snd/parameters/pcm_period_ms_min").read_text().strip() == wanted


def test_a_card_for_one_kind_of_sound_has_periods_of_a_millisecond(make_card):
    card = make_card("music", "--host", "null", *NARROW)
    assert limits(card, "PERIOD_SIZE")[0] == 48
    assert limits(card, "PERIODS") == (2, 16)


def test_a_narrow_card_plays_192_frames_by_4(make_card, tmp_path):
    out = tmp_path / "out.wav"
    card = make_card("music", "--host", "file", "--playback-file", out, "--controls", "none", *NARROW)
    sound = sounds.noise(Layout(), 192 * 500)
    player = alsa_tools.play(card.pcm, sound, period=192, buffer=768)
    assert (player.parameter("period_size"), player.parameter("buffer_size")) == (192, 768)
    card.destroy()
    with wave.open(str(out)) as file:
        assert alsa_tools.difference(sound.data, file.readframes(file.getnframes()), 4) is None
