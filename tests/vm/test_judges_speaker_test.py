# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge is speaker-test of alsa-utils: says which speaker it makes sound, one after the other
in the order of a room. In the file, that channel alone has to sound then."""

import array
import re
import wave

import programs
import pytest

CASES = {
    "mono": ["-D", "hw:music", "-c", "1", "-r", "11025", "-F", "S16_LE", "-t", "sine"],
    "stereo": ["-D", "hw:music", "-c", "2", "-r", "48000", "-F", "S16_LE", "-t", "wav"],
    "5.1": ["-D", "hw:music", "-c", "6", "-r", "44100", "-F", "S32_LE", "-t", "sine"],
    "7.1": ["-D", "hw:music", "-c", "8", "-r", "96000", "-F", "S16_LE", "-t", "pink"],
    "quadro at a rate of plug": ["-D", "plughw:music", "-c", "4", "-r", "12000", "-F", "S16_LE", "-t", "sine"],
}
# The place of each speaker in ALSA's order, which is the order of the channels.
PLACES = ["Front Left", "Front Right", "Rear Left", "Rear Right", "Front Center", "LFE", "Side Left", "Side Right"]


def spans(path):
    """Where each channel's sound starts and ends, in frames."""
    with wave.open(str(path)) as file:
        width, count = file.getsampwidth(), file.getnchannels()
        samples = array.array({2: "h", 4: "i"}[width], file.readframes(file.getnframes()))
    for channel in range(count):
        data = samples[channel::count].tobytes()
        assert data.strip(b"\0"), f"channel {channel} is silent"
        yield (len(data) - len(data.lstrip(b"\0"))) // width, -(-len(data.rstrip(b"\0")) // width)


@pytest.mark.parametrize("name", CASES)
def test_the_speakers_in_turn(make_card, tmp_path, name):
    card = make_card("music", "--host", "file", "--playback-file", tmp_path / "out.wav")
    result = programs.run("speaker-test", "-l", "1", "-b", "400000", "-p", "100000", *CASES[name], timeout=100)
    card.destroy()
    assert "rror" not in result.stdout + result.stderr, result.stdout + result.stderr
    spoken = re.findall(r"^ (\d) - (.+)$", result.stdout, re.MULTILINE)
    assert all(place == "Mono" or PLACES[int(number)] == place for number, place in spoken)
    found = list(spans(tmp_path / "out.wav"))
    order = sorted(range(len(found)), key=lambda channel: found[channel])
    assert order == [int(number) for number, _ in spoken]
    for earlier, later in zip(order, order[1:]):
        assert found[earlier][1] <= found[later][0], "two speakers at once"
