# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge is the kernel's tools/testing/selftests/alsa/mixer-test: reads and writes each control
element with every value that is allowed and some that are not, and counts the events."""

import re

import judges
import pytest
from judges import Forbidden

CASES = {"get_value", "name", "write_default", "write_valid", "write_invalid", "event_missing", "event_spurious"}
# Channel maps are made by ALSA for the driver, and nobody can write to them.
CHANNEL_MAPS = "return snd_pcm_add_chmap_ctls(pcm, direction, vs->chmaps, max_channels,"


def elements(text):
    """Number of each element, by its name."""
    return {match[2]: match[1] for match in re.finditer(r"^# music\.(\d+) (.+)$", text, re.MULTILINE)}


@pytest.mark.time_limit(200)
def test_every_case(make_card):
    card = make_card("music", "--host", "null")
    judge = judges.Judge(card, judges.kernel_selftests(), "./mixer-test")
    judge.wait(180)
    text = judge.output()
    numbers = elements(text)
    assert {"Playback Channel Map", "Capture Channel Map"} <= set(numbers), text
    maps = "|".join(number for name, number in numbers.items() if name.endswith(" Channel Map"))
    forbidden = [Forbidden(rf"write_\w+\.music\.({maps})", "skip", "virtio_chmap.c", CHANNEL_MAPS)]
    cases = judges.tap_cases(text)
    assert set(cases) == {f"{case}.music.{number}" for case in CASES for number in numbers.values()}
    found = judges.faults(cases, forbidden)
    assert not found, "\n".join([*found, text])
