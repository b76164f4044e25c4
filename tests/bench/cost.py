# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a card costs while aplay plays on it: CPU, switches, system calls, kicks; in the guest."""

import collections
import time

import alsa_tools
import sounds
from kernel_counters import Trace, Window, threads_of
from sounds import Layout

SETTLE = 1.5  # seconds of sound before the counting
COUNTERS = {"kicks": "kicks", "calls": "interrupts", "bounced_bytes": "bounced bytes"}


def playing(system, period, periods, seconds):
    """The cost of a card at one period: CPU in ms per second of audio, the rest per period."""
    layout = Layout()
    sound = sounds.noise(layout, int(layout.rate * (2 * seconds + 2 * SETTLE)))
    player = alsa_tools.Player(system.pcm, sound, period=period, buffer=period * periods)
    time.sleep(SETTLE)
    assert player.running(), player.output()
    processes = {"application": [player.pid], **{name: [pid] for name, pid in system.processes.items()}}
    window = Window(processes)
    counters, counted_from = counters_of(system), time.monotonic()
    window.begin()
    time.sleep(seconds)
    found = window.end()
    counted = {name: after - counters[name] for name, after in counters_of(system).items()}
    counted_for = time.monotonic() - counted_from
    with Trace() as trace:
        started = time.monotonic()
        time.sleep(seconds)
        traced = time.monotonic() - started
    by_period = traced_by_period(trace, processes, traced * layout.rate / period)
    player.finish()
    assert player.parameter("period_size") == period and player.parameter("buffer_size") == period * periods
    played = found["seconds"] * layout.rate / period
    return {
        "cpu": {name: value / found["seconds"] for name, value in found["cpu_ms"].items()},
        "switches": found["context_switches"] / played,
        **{name: value / (counted_for * layout.rate / period) for name, value in counted.items()},
        **by_period,
    }


def idle(system, seconds):
    """The same of a system that plays nothing: CPU in ms and context switches a second."""
    window = Window({name: [pid] for name, pid in system.processes.items()})
    window.begin()
    time.sleep(seconds)
    found = window.end()
    cpu = {name: value / found["seconds"] for name, value in found["cpu_ms"].items()}
    return {"cpu": cpu, "switches": found["context_switches"] / found["seconds"]}


def counters_of(system):
    if not system.card:
        return {}
    return {name: system.card.counter(attribute) for attribute, name in COUNTERS.items()}


def traced_by_period(trace, processes, played):
    """System calls of each process a period, by name as well, and who switched to whom."""
    roles = {thread: role for role, pids in processes.items() for pid in pids for thread in threads_of(pid)}
    totals, names = collections.Counter(), collections.Counter()
    for (pid, name), count in trace.syscalls.items():
        if pid in roles:
            totals[roles[pid]] += count / played
            names[f"{roles[pid]}: {name}"] += count / played
    switches = collections.Counter()
    for (before, after), count in trace.switches.items():
        switches[f"{before} > {after}"] += count / played
    return {
        "syscalls": {role: totals[role] for role in processes},
        "syscall_names": dict(names.most_common(12)),
        "switched": dict(switches.most_common(12)),
    }
