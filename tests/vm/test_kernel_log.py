# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The watch over the kernel log sees what it has to see."""

import pytest
from kernel_log import KernelLog, is_complaint, say


@pytest.fixture
def log():
    log = KernelLog()
    yield log
    log.close()


@pytest.mark.parametrize(
    "priority, text, expected",
    [
        (4, "snd: something is odd", True),
        (3, "virtio_snd virtio2: control message timed out", True),
        (6, "WARNING: possible circular locking dependency detected", True),
        (6, "BUG: KASAN: use-after-free in x", True),
        (6, "virtio_loopback: loaded", False),
        (6, "debugging is on", False),
        (4, "virtio_loopback: loading out-of-tree module taints kernel.", False),
    ],
)
def test_what_is_a_complaint(priority, text, expected):
    assert is_complaint(priority, text) is expected


def test_only_what_is_new_is_read(log):
    say("virtio-loopback tests: one")
    assert log.new_lines() == [(6, "virtio-loopback tests: one")]
    assert log.new_lines() == []
    say("virtio-loopback tests: two")
    assert log.complaints() == []
