# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The part of the benchmark that runs inside the virtual machine; tests/bench/run starts it there.

    measure_in_guest.py FOLDER PART...

Measures each part on every system in turn and leaves PART.json in the folder. Which parts there
are, and how much each repeats, is in plan.py.
"""

import json
import os
import pathlib
import platform
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "vm")]

import clean_playback  # noqa: E402
import cost  # noqa: E402
import latencies  # noqa: E402
import machine  # noqa: E402
import many_cards  # noqa: E402
import measuring_programs  # noqa: E402
import real_card  # noqa: E402
import systems  # noqa: E402
from plan import Plan  # noqa: E402

STARTED = time.monotonic()


def say(text):
    print(f"   [{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def latency(plan):
    """Times of requests and of the way to the first sample."""
    found = {}
    for kind in systems.ALL:
        found[kind.name] = {}
        if kind is not systems.Direct:
            say(f"{kind.name}: from adapter start to a usable card")
            found[kind.name] |= latencies.card_usable(systems.make(kind), plan.starts)
        with systems.make(kind) as system:
            say(f"{kind.name}: opening, {plan.openings} times, {plan.repetitions} times over")
            found[kind.name] |= latencies.opening(system, plan.openings, plan.repetitions)
            say(f"{kind.name}: {plan.requests} control requests, {plan.repetitions} times")
            found[kind.name] |= latencies.control_request(system, plan.requests, plan.repetitions)
    say(f"bare transport: {latencies.RNG_REQUESTS} requests of 64 bytes, {plan.repetitions} times")
    found["transport"] = latencies.transport(plan.repetitions)
    return found


def steady(plan):
    """The cost of playing."""
    found = {}
    for kind in systems.ALL:
        found[kind.name] = {"idle": []}
        say(f"{kind.name}: {plan.idle_seconds} s without sound, {plan.repetitions} times")
        with systems.make(kind) as system:
            for _ in range(plan.repetitions):
                found[kind.name]["idle"].append(cost.idle(system, plan.idle_seconds))
        for period, periods in plan.shapes:
            runs = []
            for _ in range(plan.repetitions):
                say(f"{kind.name}: playing {period} x {periods}, {plan.cost_seconds} s counted, as many traced")
                with systems.make(kind) as system:
                    runs.append(cost.playing(system, period, periods, plan.cost_seconds))
            found[kind.name][f"{period}x{periods}"] = runs
    return found


def clean(plan):
    """The smallest period, drain and delay."""
    found = {}
    for kind in systems.ALL:
        found[kind.name] = {}
        with systems.make(kind) as system:
            say(f"{kind.name}: drain of {plan.clean_seconds} s")
            found[kind.name] |= clean_playback.drain_error(system, plan.clean_seconds, plan.clean_repetitions)
            if system.far_end:
                found[kind.name] |= clean_playback.delay_error(system, plan.clean_seconds)
        for periods in (4, 16):
            runs = []
            for _ in range(plan.clean_repetitions):
                with systems.make(kind) as system:
                    run = clean_playback.smallest_clean(system, periods, plan.clean_seconds, plan.candidates)
                say(f"{kind.name}: smallest clean period x {periods}: {run['smallest']}; {run['below']}")
                runs.append(run)
            found[kind.name][f"clean x{periods}"] = runs
    return found


def cards(plan):
    """Many cards at once."""
    found = {}
    for kind in (systems.Direct, systems.OursAlsa):
        found[kind.name] = {}
        for count in plan.cards:
            runs = []
            for _ in range(plan.card_repetitions):
                say(f"{kind.name}: {count} cards playing {many_cards.PERIOD} x {many_cards.PERIODS}")
                runs.append(many_cards.playing(kind, count, plan.card_seconds))
            found[kind.name][str(count)] = runs
    return found


def be_quiet():
    """Stops what the kernel and udev do now and then by themselves: it is not what is measured."""
    pathlib.Path("/proc/sys/vm/compaction_proactiveness").write_text("0")
    pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").write_text("never")


PARTS = {"latency": latency, "steady": steady, "clean": clean, "cards": cards}


def main(folder, *parts):
    plan = Plan.from_environment()
    real_card.CARDS = many_cards.real_cards(max(plan.cards))
    say(f"kernel {platform.release()}: loading the modules, snd-aloop as the real card")
    machine.prepare()
    be_quiet()
    clock = pathlib.Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
    say(f"clock source {clock}, {os.cpu_count()} CPU")
    binaries = pathlib.Path(os.environ["VIRTIO_LOOPBACK_BINARIES"])
    measuring_programs.install(folder, [binaries / "examples" / "vhost-user-rng"])
    for part in parts:
        found = PARTS[part](plan)
        pathlib.Path(folder, f"{part}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
