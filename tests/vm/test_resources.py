# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What is opened is closed again, also after the two-hundredth time."""

import alsa_tools
import pytest
import sounds
from resources import allowed, measure
from sounds import Layout

WARM_UP = 20
TIMES = 200


@pytest.mark.core
@pytest.mark.time_limit(200)
def test_opened_and_closed_200_times(make_card, record_property):
    card = make_card("music", "--host", "null")
    sound = sounds.noise(Layout(), 3 * 480)

    def play(times):
        for number in range(times):
            alsa_tools.play(card.pcm, sound, period=480, buffer=1920, mmap=bool(number % 2)).forget()

    play(WARM_UP)
    before = measure(card)
    play(TIMES)
    after = measure(card)
    growth = {name: after[name] - before[name] for name in before}
    for name, value in growth.items():
        record_property(f"growth of {name}", value)
    too_much = {name: value for name, value in growth.items() if value > allowed(name)}
    assert not too_much
    assert card.counter("bounce_full") == card.counter("zero_copy_full") == card.counter("request_timeouts") == 0
