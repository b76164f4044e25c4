# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How loud each of several tones is in a mix, window by window, and which phases that makes."""

import dataclasses

import numpy as np

RATE = 48000
WINDOW = 2400  # frames; each tone has whole periods in it, so none is seen in another's place
AMPLITUDE = 0.2  # of a tone: those that are heard together are not clipped


def tone(frequency, seconds):
    """A tone for both channels, in S16_LE."""
    time = np.arange(int(seconds * RATE)) / RATE
    samples = AMPLITUDE * np.sin(2 * np.pi * frequency * time)
    return np.repeat((samples * 32767).astype("<i2"), 2).tobytes()


def levels(mix, frequencies):
    """`mix` is one channel of S32_LE. A row for each window, a column for each tone: 1 is as it was played."""
    samples = np.frombuffer(mix, "<i4") / 2**31
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    time = np.arange(WINDOW) / RATE
    waves = np.exp(-2j * np.pi * np.outer(time, frequencies))
    return np.abs(windows @ waves) * 2 / WINDOW / AMPLITUDE


@dataclasses.dataclass
class Phase:
    """Windows in a row in which the same is heard."""

    name: str
    levels: np.ndarray  # of each card, the median of the windows


def phases(found, wanted, tolerance=0.05):
    """The phases of a recording in their order, and the share of windows that are part of none.

    `wanted` has the levels of each phase, by name; a silent window is part of none and parts nothing.
    """
    names = list(wanted)
    distance = np.abs(found[:, None, :] - np.array([wanted[name] for name in names])[None]).max(axis=2)
    known = [names[np.argmin(row)] if row.min() <= tolerance else None for row in distance]
    loud = found.max(axis=1) > tolerance
    rows = {}
    order = []
    for number, name in enumerate(known):
        if name is None:
            continue
        if not order or order[-1] != name:
            order.append(name)
        rows.setdefault(len(order) - 1, []).append(number)
    between = sum(1 for name, is_loud in zip(known, loud, strict=True) if name is None and is_loud)
    result = [Phase(name, np.median(found[rows[place]], axis=0)) for place, name in enumerate(order)]
    return result, between / max(int(loud.sum()), 1)
