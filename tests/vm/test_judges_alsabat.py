# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge is alsabat of alsa-utils: plays a sine wave, records it from the same card, and looks
for it in the spectrum. The cases are those of its own alsabat-test, and the rates in between."""

import os

import programs
import pytest

# The spectrum of more samples takes an emulated processor minutes.
SAMPLES = ["-n", "8192"]
CASES = {
    "two channels with a tone each": ["-c", "2", "-F", "17:16547"],
    "48000 Hz": ["-r", "48000"],
    "5512 Hz": ["-r", "5512", "-F", "500"],
    "192000 Hz": ["-r", "192000", "-F", "30000"],
    "U8": ["-f", "U8"],
    "S16_LE": ["-f", "S16_LE"],
    "S24_3LE": ["-f", "S24_3LE"],
    "S32_LE": ["-f", "S32_LE"],
    "noise below 26 dB": ["--snr-db", "26"],
}
# virtio has no such rates: plug converts them.
CONVERTED = {"12000 Hz": ["-r", "12000"], "24000 Hz": ["-r", "24000"]}


# alsabat cancels its recorder half a second after its player has ended, which is when the recorder
# ends anyhow; where it comes first, there is no recording to judge.
TOO_EARLY = "Cannot open file"
TRIES = 3


def alsabat(device, *options):
    # In another locale version 1.2.8 takes the search for translations for a failure of its own.
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["alsabat", "-P", device, "-C", device, *SAMPLES, *options]
    for _ in range(TRIES):
        result = programs.run(*command, check=False, timeout=50, env=environment)
        if TOO_EARLY not in result.stdout + result.stderr:
            break
    return result


def judge(device, options):
    result = alsabat(device, *options)
    said = f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 0 and "Return value is 0" in result.stdout, said
    assert "PASS: Peak detected" in result.stdout, said
    assert "nderrun" not in result.stderr and "verrun" not in result.stderr, said


@pytest.mark.parametrize("name", CASES)
def test_a_tone(make_card, name):
    make_card("music", "--host", "loop")
    judge("hw:music", CASES[name])


@pytest.mark.parametrize("name", CONVERTED)
def test_a_tone_through_plug(make_card, name):
    make_card("music", "--host", "loop")
    judge("plughw:music", CONVERTED[name])


def test_a_card_that_plays_something_else(make_card):
    """alsabat does find fault with a card whose capture is not its playback."""
    make_card("music", "--host", "null")
    result = alsabat("hw:music")
    assert "Return value is 0" not in result.stdout, result.stdout
