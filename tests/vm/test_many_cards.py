# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Several cards at once, each with a device process of its own."""

import os

import alsa_tools
import pytest
import sounds
from card import CLASS
from real_card import RealCard
from sounds import Layout


@pytest.mark.core
def test_two_cards_play_at_once(make_card, record_property):
    """A piece of speech and a noise, of different lengths, rates and layouts, on two real cards."""
    speech = sounds.recording(sounds.SPEECH / "Front_Left.wav", Layout("S16_LE", 1, 44100)).whole_periods(1024)
    noise = sounds.noise(Layout("S16_LE", 2, 48000), 72000)
    places = [("navigation", RealCard("real0"), speech, 1024), ("music", RealCard("real1"), noise, 480)]
    cards = [
        make_card(name, "--host", "alsa", "--playback-device", real.device) for name, real, _, _ in places
    ]
    recorders = [alsa_tools.Recorder(real.far_end, sound.layout) for _, real, sound, _ in places]
    players = [
        alsa_tools.Player(card.pcm, sound, period=period, buffer=4 * period)
        for card, (_, _, sound, period) in zip(cards, places)
    ]
    for player in players:
        player.finish()
    for card, recorder, (name, _, sound, _) in zip(cards, recorders, places):
        result = recorder.compare(sound)
        assert result.exact, f"{name}: {result}"
        record_property(f"{name}: kicks and interrupts", f"{card.counter('kicks')}, {card.counter('calls')}")


def test_sixteen_cards(make_card, tmp_path):
    """Sixteen cards are created, each plays its own sound while others do, and all go."""
    numbers = range(16)
    cards = [
        make_card(f"zone{number}", "--host", "file", "--playback-file", tmp_path / f"{number}.wav")
        for number in numbers
    ]
    assert sorted(os.listdir(CLASS)) == sorted(card.name for card in cards)
    tones = [sounds.noise(Layout(), 24 * 1024, seed=number) for number in numbers]
    for start in range(0, len(cards), 4):
        group = range(start, start + 4)
        players = [alsa_tools.Player(cards[n].pcm, tones[n], period=1024, buffer=4096) for n in group]
        for player in players:
            player.finish()
    for card in cards:
        card.destroy()
    assert os.listdir(CLASS) == []
    for number in numbers:
        difference = alsa_tools.difference(tones[number].data, sounds.read_wav(tmp_path / f"{number}.wav")[1], 4)
        assert not difference, f"card {number}"
