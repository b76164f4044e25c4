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
    cards: tuple = (1, 4, 16)
    card_seconds: int = 10

    @classmethod
    def from_environment(cls):
        return PLANS[os.environ.get(VARIABLE, "whole")]


PLANS = {
    "whole": Plan(),
    "quick": Plan(repetitions=1, starts=1, openings=2, requests=50, shapes=((480, 16),), cost_seconds=2, idle_seconds=2,
                  clean_seconds=2, clean_repetitions=1, candidates=(480,), cards=(1, 2), card_seconds=2),
}
