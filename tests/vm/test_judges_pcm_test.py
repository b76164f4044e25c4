# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The judge is the kernel's tools/testing/selftests/alsa/pcm-test: plays and records for 2 s of
the card's time in each of many layouts, and looks at the clock."""

import re

import judges
import pytest
from judges import Forbidden

STANDARD = {f"default.time{number}" for number in range(1, 8)}
OURS = set(re.findall(r"test\.(\w+)", judges.MUSIC.read_text()))

FORBIDDEN = [
    # 88200 frames are 3 periods of 22500 and a part of one, which the driver keeps: ALSA's drain
    # waits for it 1.1 times the length of the buffer, 5 s.
    Forbidden(r"default\.time3\.music\.0\.0\.PLAYBACK", "not ok",
              "virtio_pcm_msg.c", "if (msg->length == period_bytes) {"),
]


@pytest.mark.time_limit(200)
@pytest.mark.parametrize("host", ["null", "loop", "alsa"])
def test_every_case(make_card, real, host):
    device = ["--playback-device", real.device, "--capture-device", real.device] if host == "alsa" else []
    card = make_card("music", "--host", host, *device)
    judge = judges.Judge(card, judges.kernel_selftests(), "./pcm-test")
    judge.wait(180)
    cases = judges.tap_cases(judge.output())
    for direction in ("PLAYBACK", "CAPTURE"):
        names = {name.removesuffix(f".music.0.0.{direction}") for name in cases if name.endswith(direction)}
        assert names >= STANDARD | {f"system.{name}" for name in OURS}
    found = judges.faults(cases, FORBIDDEN)
    assert not found, "\n".join([*found, judge.output()])
