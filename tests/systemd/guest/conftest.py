# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every test fails if the kernel logs a complaint meanwhile, and the first one also if it did so during the boot."""

import os
import re

import pytest
from kernel_log import KernelLog

# Beside what is not ours in tests/vm either: what is emulated, as two CPUs, and systemd, before it has a journal.
BOOT = re.compile(
    r"^(mtrr: your CPUs had inconsistent|acpi PNP0A03:00: fail to add MMCONFIG|amd_pstate: |systemd\[1\]: )"
)


@pytest.fixture(scope="session")
def complaints():
    """Returns what the kernel has complained of since it was last asked, or started."""
    log = KernelLog(whence=os.SEEK_SET)
    yield lambda: [line for line in log.complaints() if not BOOT.search(line)]
    log.close()


@pytest.fixture(autouse=True)
def watch(complaints):
    yield
    said = complaints()
    assert not said, "the kernel complained:\n" + "\n".join(said)
