# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What an application plays arrives, every bit of it, in order, once."""


import alsa_tools
import pytest
import sounds
from pairwise import pairwise
from sounds import Layout

FORMATS = ["U8", "S16_LE", "S24_LE", "S24_3LE", "S32_LE"]
ACCESS = ["write", "mmap"]
MATRIX = pairwise(
    {
        "period": [480, 1024, 1800, 2400],
        "periods": [2, 4, 8],
        "access": ACCESS,
        "format": FORMATS,
        "channels": [1, 2, 6],
        "rate": [44100, 48000],
    }
)
# What the real card takes part in; period and buffer are then those of a user's choice.
REAL_MATRIX = pairwise(
    {
        "period": [480, 1200],
        "access": ACCESS,
        "format": ["S16_LE", "S24_LE", "S32_LE"],
        "channels": [1, 2, 6],
        "rate": [44100, 48000],
    }
)


def name_of(row):
    return "-".join(f"{key[0]}{value}" if isinstance(value, int) else value for key, value in row.items())


@pytest.mark.core
@pytest.mark.parametrize("row", MATRIX, ids=name_of)
def test_playback_is_exact(make_card, tmp_path, row):
    layout = Layout(row["format"], row["channels"], row["rate"])
    period, buffer = row["period"], row["period"] * row["periods"]
    # Four times round the buffer, and whole periods.
    sound = sounds.noise(layout, max(4 * buffer, 12 * period))
    card = make_card("music", "--host", "file", "--playback-file", tmp_path / "out.wav")
    player = alsa_tools.play(card.pcm, sound, period=period, buffer=buffer, mmap=row["access"] == "mmap")
    assert (player.parameter("period_size"), player.parameter("buffer_size")) == (period, buffer)
    card.destroy()

    expected = sounds.pack_s24(sound.data) if row["format"] == "S24_LE" else sound.data
    written, data = sounds.read_wav(tmp_path / "out.wav")
    assert written == (len(expected) // sound.frames // row["channels"], row["channels"], row["rate"])
    difference = alsa_tools.difference(expected, data, len(expected) // sound.frames)
    assert not difference


@pytest.mark.parametrize("row", REAL_MATRIX, ids=name_of)
def test_playback_on_a_real_card_is_exact(music, real, row):
    layout = Layout(row["format"], row["channels"], row["rate"])
    period = row["period"]
    sound = sounds.noise(layout, layout.rate // 2 // period * period)
    recorder = alsa_tools.Recorder(real.far_end, layout)
    player = alsa_tools.play(music.pcm, sound, period=period, buffer=4 * period, mmap=row["access"] == "mmap")
    assert (player.parameter("period_size"), player.parameter("buffer_size")) == (period, 4 * period)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.parametrize(("period", "periods"), [(240, 4), (192, 4), (96, 8)])
def test_short_periods_on_a_real_card_are_exact(music, real, period, periods):
    """The whole buffer lies in the card, whose interrupts may be later than it lasts."""
    sound = sounds.noise(Layout(), 48000)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.play(music.pcm, sound, period=period, buffer=period * periods)
    assert (player.parameter("period_size"), player.parameter("buffer_size")) == (period, period * periods)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.core
@pytest.mark.parametrize("name", ["Front_Center", "Rear_Left", "Noise"])
def test_a_recording_is_exact(music, real, name):
    sound = sounds.recording(sounds.SPEECH / f"{name}.wav", Layout()).whole_periods(1024)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(music.pcm, sound, period=1024, buffer=4096)
    result = recorder.compare(sound)
    assert result.exact, str(result)


@pytest.mark.skipif(alsa_tools.PLAYS_ON, reason="what this kernel's driver plays on lies between the sounds")
@pytest.mark.core
def test_two_sounds_after_each_other(make_card, tmp_path):
    """The second open of a stream goes on in the same file: nothing of the first comes again."""
    card = make_card("music", "--host", "file", "--playback-file", tmp_path / "out.wav")
    first, second = (sounds.noise(Layout(), 24 * 480, seed) for seed in (1, 2))
    for sound in (first, second):
        alsa_tools.play(card.pcm, sound, period=480, buffer=1920)
    card.destroy()
    difference = alsa_tools.difference(first.data + second.data, sounds.read_wav(tmp_path / "out.wav")[1], 4)
    assert not difference


@pytest.mark.core
def test_an_interrupt_a_period_at_most(make_card, record_property):
    """In steady state the stream costs one interrupt a period at most, and no kick. What is left
    are the requests of its life, and the messages that it queued before it ran."""
    card = make_card("music", "--host", "null")
    counters = []
    for periods in (40, 140):
        before = card.counter("kicks"), card.counter("calls")
        alsa_tools.play(card.pcm, sounds.noise(Layout(), periods * 480), period=480, buffer=4800)
        counters.append((card.counter("kicks") - before[0], card.counter("calls") - before[1]))
    (few_kicks, few_calls), (many_kicks, many_calls) = counters
    record_property("kicks and interrupts of 40 periods", f"{few_kicks}, {few_calls}")
    record_property("kicks and interrupts of 140 periods", f"{many_kicks}, {many_calls}")
    assert 0 < many_calls - few_calls <= 100
    assert many_kicks == few_kicks
