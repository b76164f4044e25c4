# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Whether a run measured everything, and nothing impossible. It judges counts, never times."""

import math

from figures import ALSA, NULL, SYSTEMS

# Without a far side there is no sound to wait for; without a stack no such thing.
NOT_ON = {"first_sample": {NULL}, "delay": {NULL}, "transport": set(SYSTEMS) - {NULL}}
NOT_DIRECT = ("card_usable", "adapter", "device", "kicks", "interrupts", "bounced bytes", "idle adapter", "idle device")
# The kernel counts its idle time apart from the clock, so that an idle second may have been idle for longer.
MAY_BE_NEGATIVE = {"drain", "switches above idle", "idle whole system"}


def faults(sections):
    """What is missing or impossible, one line each."""
    for section in sections:
        for row in section.rows:
            where = f"{section.title}: {row.title}"
            for system in expected(row):
                if not row.values.get(system):
                    yield f"{where}: nothing measured for {system}"
            for system, values in row.values.items():
                for value in values:
                    if not math.isfinite(value) or value < 0 and not may_be_negative(row.key):
                        yield f"{where}: {value} for {system}"
            yield from wrong_counts(row, where)


def expected(row):
    systems = set(SYSTEMS) - NOT_ON.get(row.key, set())
    if row.key.startswith("cards "):
        systems &= {ALSA}
    if row.key.endswith(NOT_DIRECT):
        systems -= {"direct"}
    return systems


def may_be_negative(key):
    # What the kernel uses may become less while two cards come.
    return key in MAY_BE_NEGATIVE or key.endswith("memory kernel")


def wrong_counts(row, where):
    """A running stream is not kicked, and the driver is interrupted once a period at most."""
    for system, values in row.values.items():
        if row.key.endswith("kicks") and any(values):
            yield f"{where}: {max(values)} kicks a period on {system}"
        # A short window may hold an interrupt more than periods.
        if row.key.endswith("interrupts") and max(values) > 1.1:
            yield f"{where}: {max(values):.2f} interrupts a period on {system}"
