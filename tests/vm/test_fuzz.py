# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A short run of the fuzzer of the control file; `make test-debug-kernels` runs it for an hour."""

import json
import os
import pathlib

import device
import programs
import pytest
from test_hostile_device import DRIVERS_SAY

PROGRAM = pathlib.Path(os.environ["VIRTIO_LOOPBACK_MODULE"]).parents[1] / "fuzz" / "fuzz-control"


@pytest.mark.time_limit(600)
@pytest.mark.kernel_may_say(DRIVERS_SAY)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_calls(seed):
    programs.run("modprobe", "-a", "virtio_net", "virtio_input", "virtio_rng")
    output = programs.run(PROGRAM, "--seed", seed, "--threads", 4, "--calls", 4000, timeout=500).stdout
    counts = json.loads(output)
    # It got somewhere: devices were made, started and served, and files mapped.
    for name in ("created", "attached", "started", "answered", "mapped", "served", "destroyed"):
        assert counts[name] > 0, output
    device.destroy_all(60)
