# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that comes late by a whole buffer, or more, does not end the stream."""

import pathlib
import signal
import time

import pytest
import sounds
from pcm import Pcm
from programs import wait_until
from sounds import Layout
from survivors import ask

COMMANDS = pathlib.Path("/run/virtio-loopback/music.commands")


@pytest.mark.core
@pytest.mark.parametrize("late", [0.045, 0.09, 0.3])
@pytest.mark.parametrize("periods", [2, 4, 16])
def test_an_application_that_looks_at_its_position_goes_on(make_card, periods, late):
    """ALSA takes the position behind a whole buffer for the one before it, unless it has not looked for long:
    it would wake nobody, and the next write would fail with EIO."""
    COMMANDS.parent.mkdir(exist_ok=True)
    card = make_card("music", "--host", "null", "--controls", "none", "--command-socket", COMMANDS)
    period = 1920 // periods
    data = sounds.noise(Layout(), 24000, seed=13).data
    with Pcm(card.pcm, period, 1920) as pcm:
        pcm.write(data[: 1920 * 4])
        card.device.send(signal.SIGSTOP)
        until = time.monotonic() + late
        while time.monotonic() < until:
            pcm.avail_delay()
        card.device.send(signal.SIGCONT)
        pcm.write(data[1920 * 4 :])
        assert pcm.state() == "running"
        assert ask(COMMANDS)["streams"][0]["gaps"] == 1
    wait_until(lambda: "; 1 gaps of " in card.device.output(), "the hole to be told")
