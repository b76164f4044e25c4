# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge itself: each way in which a recording can be wrong has to be noticed."""

import random

import pytest
from wave_compare import compare

FRAME = 4
PERIOD = 480 * FRAME
SOUND = b"\x01" + random.Random(1).randbytes(10 * PERIOD - 1)
QUIET = bytes(700 * FRAME)


def judge(recording, **keywords):
    return compare(SOUND, recording, FRAME, **keywords)


def test_a_sound_between_silences_is_exact():
    result = judge(QUIET + SOUND + QUIET)
    assert result.exact
    assert (result.frames_in, result.frames_out, result.start) == (4800, 4800, 700)
    assert str(result) == "4800 frames in, 4800 out, no difference"


def test_silence_at_the_ends_of_the_sound_counts():
    sound = bytes(8 * FRAME) + SOUND + bytes(8 * FRAME)
    assert compare(sound, QUIET + SOUND + QUIET, FRAME).exact
    assert not compare(sound, bytes(7 * FRAME) + SOUND + QUIET, FRAME).exact
    assert not compare(sound, QUIET + SOUND + bytes(7 * FRAME), FRAME).exact


def test_unsigned_silence():
    assert compare(SOUND, b"\x80" * 400 + SOUND + b"\x80" * 400, FRAME, silent_byte=0x80).exact


@pytest.mark.parametrize(
    "recording, first_difference, continues_at",
    [
        pytest.param(QUIET + SOUND[:-FRAME], 4799, None, id="last-frame-missing"),
        pytest.param(QUIET + SOUND[: 2 * PERIOD] + SOUND[3 * PERIOD :] + QUIET, 960, 1440, id="period-lost"),
        pytest.param(QUIET + SOUND[: 2 * PERIOD] + SOUND[PERIOD:] + QUIET, 960, 480, id="period-repeated"),
        pytest.param(QUIET + SOUND + SOUND[-PERIOD:] + QUIET, 4800, 4320, id="stale-sound-after-the-end"),
        pytest.param(QUIET + SOUND[: PERIOD] + QUIET + SOUND[PERIOD:], 480, None, id="gap"),
        pytest.param(QUIET + SOUND[:9] + b"\xff" + SOUND[10:] + QUIET, 2, None, id="one-byte"),
        pytest.param(QUIET + SOUND[FRAME:] + QUIET, 0, 1, id="first-frame-lost"),
        pytest.param(QUIET, 0, None, id="silent"),
        pytest.param(b"", 0, None, id="empty"),
    ],
)
def test_what_is_wrong_is_found(recording, first_difference, continues_at):
    result = judge(recording)
    assert not result.exact
    assert result.first_difference == first_difference
    assert result.continues_at == continues_at


def test_all_arrived_whatever_follows():
    after = judge(QUIET + SOUND + SOUND[-PERIOD:])
    assert after.arrived and not after.exact
    assert judge(QUIET + SOUND + QUIET).arrived
    assert not judge(QUIET + SOUND[:-FRAME]).arrived
    assert not judge(QUIET).arrived


def test_what_the_recorder_had_in_its_buffer_before_does_not_count():
    lap = 4000
    recording = QUIET + SOUND + QUIET[:100]
    stale = recording[-lap * FRAME :][: 300 * FRAME]
    assert judge(recording + stale + QUIET, recorder_frames=lap).exact
    assert not judge(recording + stale + QUIET).exact
    # Other sound than that of one buffer ago does count.
    assert not judge(recording + stale + QUIET, recorder_frames=lap - 1).exact
    assert not judge(QUIET + SOUND + SOUND[-PERIOD:] + QUIET, recorder_frames=lap).exact


def test_a_silent_sound_is_refused():
    with pytest.raises(ValueError):
        compare(QUIET, QUIET, FRAME)
