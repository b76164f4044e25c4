# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge is the kernel's tools/testing/selftests/alsa/mixer-test: reads and writes each control
element with every value that is allowed and some that are not, and counts the events."""

import re

import judges
import pytest
from judges import Forbidden

CASES = {"get_value", "name", "write_default", "write_valid", "write_invalid", "event_missing", "event_spurious"}
# ALSA makes channel maps and jacks for the driver: nobody can write to them.
READ_ONLY = {
    " Channel Map": ("virtio_chmap.c", "return snd_pcm_add_chmap_ctls(pcm, direction, vs->chmaps, max_channels,"),
    " Jack": ("virtio_jack.c", "rc = snd_jack_new(snd->card, virtsnd_jack_get_label(vjack),"),
}
CARD = """
[[stream]]
direction = "playback"
host = "null"

[[stream]]
direction = "capture"
host = "null"
channels = "1-2"

[[control]]
name = "Master Playback Volume"
kind = "volume"
range-db = [-40.0, 0.0]

[[control]]
name = "Master Playback Switch"
kind = "mute"

[[control]]
name = "Capture Volume"
kind = "volume"

[[jack]]
kind = "headphone"
plugged = true
"""


def elements(text):
    """Number of each element, by its name."""
    return {match[2]: match[1] for match in re.finditer(r"^# music\.(\d+) (.+)$", text, re.MULTILINE)}


def judge(card):
    """Lets mixer-test look at every element of the card; returns their names."""
    run = judges.Judge(card, judges.kernel_selftests(), "./mixer-test")
    run.wait(180)
    text = run.output()
    numbers = elements(text)
    forbidden = [
        Forbidden(rf"write_\w+\.music\.{number}", "skip", file, line)
        for suffix, (file, line) in READ_ONLY.items()
        for name, number in numbers.items()
        if name.endswith(suffix)
    ]
    cases = judges.tap_cases(text)
    assert set(cases) == {f"{case}.music.{number}" for case in CASES for number in numbers.values()}, text
    found = judges.faults(cases, forbidden)
    assert not found, "\n".join([*found, text])
    return set(numbers)


MAPS = {"Playback Channel Map", "Capture Channel Map"}


@pytest.mark.time_limit(200)
def test_the_elements_that_every_card_has(make_card):
    names = judge(make_card("music", "--host", "null"))
    volumes = {"Master Playback Volume", "Capture Volume"}
    assert names == MAPS | volumes | {"Master Playback Switch", "Capture Switch"}


@pytest.mark.time_limit(200)
def test_the_elements_of_a_card_file(make_card, tmp_path):
    (tmp_path / "card.toml").write_text(CARD)
    names = judge(make_card("music", "--card", tmp_path / "card.toml"))
    jacks = {name for name in names if name.endswith(" Jack")}
    assert len(jacks) == 1
    assert names - jacks == MAPS | {"Master Playback Volume", "Master Playback Switch", "Capture Volume"}
