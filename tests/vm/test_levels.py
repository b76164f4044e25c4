# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What finds the levels in a mix, for the tests of roles and for the demo, finds those that are in it."""

import pathlib
import sys

import numpy as np
import pytest
from levels import AMPLITUDE, RATE, levels, phases

sys.path.append(str(pathlib.Path(__file__).parents[1] / "demo"))

import scene  # noqa: E402

FREQUENCIES = [440, 1000]
WANTED = {"alone": [1, 0], "ducked": [0.2, 1]}


def mixed(*parts):
    """A mix, from the seconds of each part and the levels of the tones in it."""
    pieces = []
    for seconds, gains in parts:
        time = np.arange(int(seconds * RATE)) / RATE
        waves = np.sin(2 * np.pi * np.outer(FREQUENCIES, time))
        pieces.append(AMPLITUDE * np.array(gains) @ waves)
    return (np.concatenate(pieces) * 2**31).astype("<i4").tobytes()


def test_phases_are_found_in_their_order():
    mix = mixed((0.5, [0, 0]), (1, [1, 0]), (1, [0.2, 1]), (0.2, [0, 0]), (1, [1, 0]))
    found, between = phases(levels(mix, FREQUENCIES), WANTED)
    assert [phase.name for phase in found] == ["alone", "ducked", "alone"]
    np.testing.assert_allclose(found[1].levels, [0.2, 1], atol=1e-3)
    assert between == 0


def test_a_wrong_level_is_no_phase():
    mix = mixed((1, [1, 0]), (1, [0.3, 1]), (1, [1, 0]))
    found, between = phases(levels(mix, FREQUENCIES), WANTED)
    assert [phase.name for phase in found] == ["alone"]
    assert between == pytest.approx(1 / 3, abs=0.05)


def played(duck=0.2, corked=0.0, hum=0.0):
    """The demo's scene, played by hand. Returns it, and the frames at which prompt, call and music begin."""
    noise = np.random.default_rng(1)
    sounds = {name: noise.uniform(-0.4, 0.4, seconds * RATE) for name, seconds in
              (("music", 8), ("navigation", 3), ("phone", 2))}
    music, prompt, call = sounds.values()
    at = [RATE // 4 + 13, 3 * RATE // 2 + 77, 3 * RATE + 5]
    again = at[2] + len(call) + 3000
    mix = np.zeros(7 * RATE)
    mix[at[0] : at[1]] += music[: at[1] - at[0]]
    mix[at[1] : at[2]] += duck * music[at[1] - at[0] : at[2] - at[0]] + prompt[: at[2] - at[1]]
    mix[at[2] : at[2] + len(call)] += call + corked * music[at[2] - at[0] :][: len(call)]
    mix[again:] += music[at[2] - at[0] :][: len(mix) - again]
    mix += hum * np.sin(np.arange(len(mix)) * 0.05)
    marks = {"prompt": at[1] - 9000, "call": at[2] - 8000, "call ends": again - 1000}
    return scene.Scene(mix, sounds, marks), [at[1], at[2], again]


def test_the_scene_of_the_demo_is_found_to_the_frame():
    found, places = played()
    assert found.is_right()
    assert [phase.start for phase in found.phases[1:]] == places
    assert found.phases[1].levels["music"] == pytest.approx(0.2, abs=1e-6)
    assert found.lost == 0
    rows = list(scene.rows(found))
    assert len({len(row) for row in rows}) == 1 and not any("WRONG" in row for row in rows)


@pytest.mark.parametrize("fault", [{"duck": 0.25}, {"corked": 0.05}, {"hum": 0.1}])
def test_the_demo_sees_what_is_wrong(fault):
    found, _ = played(**fault)
    assert not found.is_right()
