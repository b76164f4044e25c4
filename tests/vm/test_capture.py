# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the real card, or a file, holds for capture arrives in the application, every bit of it."""


import alsa_tools
import pytest
import sounds
from pairwise import pairwise
from sounds import Layout
from wave_compare import compare

MATRIX = pairwise(
    {
        "period": [480, 1200],
        "periods": [3, 5],  # 160 ms at most, which is what virtio_snd takes of a card with one layout
        "access": ["read", "mmap"],
        "format": ["U8", "S16_LE", "S24_3LE", "S32_LE"],
        "channels": [1, 2, 6],
        "rate": [44100, 48000],
    }
)


def name_of(row):
    return "-".join(f"{key[0]}{value}" if isinstance(value, int) else value for key, value in row.items())


@pytest.mark.core
@pytest.mark.parametrize("row", MATRIX, ids=name_of)
def test_capture_is_exact(make_card, tmp_path, row):
    """A captured file starts with the stream and is followed by silence."""
    layout = Layout(row["format"], row["channels"], row["rate"])
    period, buffer = row["period"], row["period"] * row["periods"]
    sound = sounds.noise(layout, 3 * buffer + 100)
    sounds.write_wav(tmp_path / "in.wav", sound)
    card = make_card("music", "--host", "file", "--capture-file", tmp_path / "in.wav")
    recorder = alsa_tools.Recorder(card.pcm, layout, period=period, buffer=buffer, mmap=row["access"] == "mmap")
    recorder.wait_for(sound.frames)
    recorded = recorder.finish()
    result = compare(sound.data, recorded.data, layout.frame_bytes, layout.silent_byte)
    assert result.exact, str(result)
    assert result.start == 0, "the recording starts before the captured file"


@pytest.mark.core
@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mmap"])
def test_capture_from_a_real_card_is_exact(music, real, mmap):
    sound = sounds.noise(Layout(), 48000 // 480 * 480).then_silence(4800)
    recorder = alsa_tools.Recorder(music.pcm, sound.layout, period=480, buffer=1920, mmap=mmap)
    alsa_tools.play(real.far_end, sound, period=480, buffer=4800)
    result = recorder.compare(sound)
    assert result.arrived, str(result)


@pytest.mark.core
def test_playback_and_capture_at_once(music, real):
    """Both directions of one card, each from and to the real card's far end."""
    out, back = (sounds.noise(Layout(), 48000, seed).then_silence(4800) for seed in (3, 4))
    far_recorder = alsa_tools.Recorder(real.far_end, out.layout)
    recorder = alsa_tools.Recorder(music.pcm, back.layout, period=480, buffer=1920)
    far_player = alsa_tools.Player(real.far_end, back, period=480, buffer=4800)
    alsa_tools.play(music.pcm, out, period=480, buffer=1920)
    far_player.finish()
    played, captured = far_recorder.compare(out), recorder.compare(back)
    assert played.exact, f"playback: {played}"
    assert captured.arrived, f"capture: {captured}"


@pytest.mark.core
def test_what_is_played_is_captured(make_card):
    """The loop host: both directions on one clock, without a real card."""
    card = make_card("music", "--host", "loop")
    sound = sounds.noise(Layout(), 48000)
    recorder = alsa_tools.Recorder(card.pcm, sound.layout, period=480, buffer=1920)
    alsa_tools.play(card.pcm, sound, period=480, buffer=1920)
    result = recorder.compare(sound)
    assert result.exact, str(result)
