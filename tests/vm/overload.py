# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""More work than the CPUs can do, by stress-ng."""

import contextlib
import pathlib
import re
import types

from programs import Program, wait_until

STRESSORS = 8


@contextlib.contextmanager
def overloaded():
    """Every CPU has more to do than it can. At the end, `busy` is how much of its time each has worked."""
    load = Program("stress-ng", "--cpu", STRESSORS, "--cpu-method", "int64", "--quiet", stdin=None)
    wait_until(lambda: stressors(load) >= STRESSORS or not load.running(), "the load")
    measured = types.SimpleNamespace(busy=[])
    before = busy_ticks()
    yield measured
    after = busy_ticks()
    assert load.running(), load.output()
    load.stop()
    measured.busy = [(now[0] - then[0]) / max(1, sum(now) - sum(then)) for then, now in zip(before, after)]


def busy_ticks():
    """Of each CPU, how many ticks it has worked and how many it has not."""
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    fields = [list(map(int, line.split()[1:])) for line in lines if re.match(r"cpu\d", line)]
    return [(sum(ticks) - ticks[3] - ticks[4], ticks[3] + ticks[4]) for ticks in fields]


def stressors(load):
    children = pathlib.Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text()
    return len(children.split())
