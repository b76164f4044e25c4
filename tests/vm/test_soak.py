# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Random kills of programs, unplugged cards, dead sound servers while four cards play and record: no
application hears of any, and nothing is left behind.

From the environment: VIRTIO_LOOPBACK_KILLS, how many (15); VIRTIO_LOOPBACK_SEED, which (1). `make soak`
is this with 1000.
"""

import os

import pytest
from resources import FREED
from soak import Soak, open_files

KILLS = int(os.environ.get("VIRTIO_LOOPBACK_KILLS") or 15)
SEED = int(os.environ.get("VIRTIO_LOOPBACK_SEED") or 1)
# Files of the whole guest that the kernel may still be closing when all have gone.
CLOSING = 8
# A round has some twelve kills; the last figure is for the emulator's own time.
SECONDS = 180 + 4 * KILLS


def allowed(name):
    """Noise: the kernel takes and gives back some 260 KiB. A page for each kill would be 4 KiB, of 15 kills 60, which
    is too much for a program."""
    if "KiB" not in name:
        return 0
    return KILLS + (400 + FREED if "kernel" in name else 16)


@pytest.mark.time_limit(SECONDS)
def test_random_kills(watch, make_server, make_card, record_property):
    print(f"\n{KILLS} kills, seed {SEED}", flush=True)
    files = open_files()
    server = make_server(channels=1)
    soak = Soak(make_card, server, SEED)
    soak.round(2)
    before = soak.measure()
    warnings = []
    while soak.kills < KILLS:
        soak.round(KILLS - soak.kills)
        warnings += watch.complaints()
        print(f"{soak.kills} kills, {len(soak.errors)} errors, {dict(soak.counts)}", flush=True)
    growth = {name: value - before[name] for name, value in soak.measure().items()}
    table = {
        **soak.faults,
        "application errors": len(soak.errors),
        "kernel warnings": len(warnings),
        **soak.counts,
        **growth,
    }
    for name, value in table.items():
        print(f"{name:<50} {value:>9}", flush=True)
        record_property(name, value)
    assert not soak.errors, "\n".join(soak.errors)
    assert not warnings, "\n".join(warnings)
    assert not soak.counts["repeated or out of order"]
    assert not {name: value for name, value in growth.items() if value > allowed(name)}
    soak.end()
    server.kill()
    left = open_files() - files
    print(f"{'files left open in the guest':<50} {left:>9}", flush=True)
    record_property("files left open in the guest", left)
    assert left <= CLOSING
