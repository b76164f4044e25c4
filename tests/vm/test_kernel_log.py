# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The watch over the kernel log sees what it has to see."""

import pytest
from kernel_log import KernelLog, is_complaint, say, without_kills_on_request, without_races_of_others


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


RULE = (3, "=" * 66)


def race(*frames):
    """What KCSAN says of one, at the priority of an error."""
    lines = ["BUG: KCSAN: data-race in one / other", "read to 0xff3500339e41ff98 of 8 bytes by task 12:", *frames]
    return [RULE, *((3, line) for line in lines), RULE]


@pytest.mark.parametrize(
    "lines, kept",
    [
        (race(" one+0x69/0xd0", " other+0x1/0x20"), []),
        (race(" vl_queue_reset+0x69/0xd0 [virtio_loopback]"), race(" vl_queue_reset+0x69/0xd0 [virtio_loopback]")),
        (race(" one+0x69/0xd0")[:-1], race(" one+0x69/0xd0")[:-1]),
    ],
    ids=["others'", "ours", "cut off"],
)
def test_a_race_between_others_is_left_out(lines, kept):
    before, after = (6, "before"), (4, "after")
    assert without_races_of_others([before, *lines, after]) == [before, *kept, after]


def test_a_kill_on_request_is_left_out():
    before, after = (4, "before"), (4, "after")
    report = [(6, "sysrq: Manual OOM execution"), (4, "kworker/0:1 invoked oom-killer"), (4, "Mem-Info:"),
              (3, "Out of memory: Killed process 12 (vhost-user-sound)")]
    assert without_kills_on_request([before, *report, after]) == [before, after]
    assert without_kills_on_request([before, *report[:-1], after]) == [before, *report[:-1], after]
    assert without_kills_on_request([before, *report[1:], after]) == [before, *report[1:], after]
    killed_in_group = (3, "Memory cgroup out of memory: Killed process 12 (vhost-user-sound)")
    assert without_kills_on_request([before, *report[1:-1], killed_in_group, after]) == [before, after]
