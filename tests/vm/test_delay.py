# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What an application reads as delay is the time between its write and the sample on the real card.

The measure is independent of every program of ours: the kernel's own account of the real card's
pointer. Frame N of the sound is heard when that pointer reaches N, since the real card starts with
the stream's first frame.
"""

import pathlib
import re

import pytest
import sounds
from pcm import CAPTURE, Pcm
from sounds import Layout

LAYOUT = Layout()
LAYOUTS = [(480, 4), (1200, 4), (240, 16)]


def pointers(real, kind="p"):
    """The real card's hw_ptr and appl_ptr, as of now."""
    text = pathlib.Path(f"/proc/asound/{real.id}/pcm0{kind}/sub{real.subdevice}/status").read_text()
    return [int(re.search(rf"^{name}\s*: (\d+)", text, re.MULTILINE)[1]) for name in ("hw_ptr", "appl_ptr")]


@pytest.mark.parametrize("period, periods", LAYOUTS)
def test_the_delay_of_playback(music, real, period, periods, record_property):
    """At 60 moments: written - delay is the frame that is heard now, to within a period."""
    sound = sounds.noise(LAYOUT, period * (periods + 60))
    frame_bytes = LAYOUT.frame_bytes
    errors = []
    with Pcm(music.pcm, period, period * periods) as pcm:
        written = period * periods
        pcm.write(sound.data[: written * frame_bytes])
        assert pcm.state() == "running"
        while written < sound.frames:
            # Ends when there is room, so each time at another point of a period.
            pcm.write(sound.data[written * frame_bytes :][: period * frame_bytes])
            written += period
            before, _ = pointers(real)
            _, delay = pcm.avail_delay()
            after, filled = pointers(real)
            assert filled <= written
            # The card may have gone on between the readings.
            heard = written - delay
            errors.append(max(before - heard, 0) or min(after - heard, 0))
        assert pcm.drain() == 0
    record_property("frames by which the delay differs", f"{min(errors)} to {max(errors)}")
    assert len(errors) == 60
    assert -period <= min(errors) and max(errors) <= period, errors


@pytest.mark.parametrize("period, periods", LAYOUTS)
def test_the_delay_of_capture(music, real, period, periods, record_property):
    """At 60 moments: read + delay is the frame that is captured now, to within a period."""
    errors = []
    with Pcm(music.pcm, period, period * periods, direction=CAPTURE) as pcm:
        pcm.start()
        read = 0
        for _ in range(60):
            read += len(pcm.read(period)) // LAYOUT.frame_bytes
            before, _ = pointers(real, "c")
            _, delay = pcm.avail_delay()
            after, _ = pointers(real, "c")
            captured = read + delay
            errors.append(max(before - captured, 0) or min(after - captured, 0))
    record_property("frames by which the delay differs", f"{min(errors)} to {max(errors)}")
    # A frame that has been captured is delivered with its period.
    assert -period <= min(errors) and max(errors) <= period, errors
