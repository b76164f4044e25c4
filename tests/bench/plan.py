# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How much is measured: all of it, or a short smoke run."""

import dataclasses
import os

VARIABLE = "VIRTIO_LOOPBACK_BENCH_PLAN"  # tells the guest which one


@dataclasses.dataclass(frozen=True)
class Plan:
    """Numbers of repetitions, and seconds of sound."""

    repetitions: int = 3
    starts: int = 5
    openings: int = 16
    requests: int = 300
    shapes: tuple = ((2400, 4), (480, 16))
    cost_seconds: int = 10
    idle_seconds: int = 20
    clean_seconds: int = 10
    clean_repetitions: int = 2
    candidates: tuple = (960, 480, 360, 288, 240, 192, 160, 128, 96, 64)
    # Debian's kernel has numbers for 32 sound cards, and so has alsa-lib: 28 of ours and 4 real ones,
    # with 8 cables each, is the most there can be.
    cards: tuple = (1, 4, 16, 28)
    card_seconds: int = 10
    card_repetitions: int = 2

    @classmethod
    def from_environment(cls):
        return PLANS[os.environ.get(VARIABLE, "whole")]


PLANS = {
    "whole": Plan(),
    "quick": Plan(repetitions=1, starts=1, openings=2, requests=20, shapes=((480, 16),), cost_seconds=1,
                  idle_seconds=1, clean_seconds=1, clean_repetitions=1, candidates=(480,), cards=(2,),
                  card_seconds=1, card_repetitions=1),
}
