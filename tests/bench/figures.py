# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The figures of the benchmark: from what was measured to rows with units, spreads and aims."""

import dataclasses
import statistics

DIRECT, ALSA, NULL = "direct", "ours-alsa", "ours-null"
SYSTEMS = {DIRECT: "direct", ALSA: "ours, alsa host", NULL: "ours, null host"}
OURS = (ALSA, NULL)
RATE = 48000
MIB = 1 << 20
DEVICE_AIMS = {"2400x4": 0.5, "480x16": 1.0}  # ms of the device process per second of sound
ONE_EVENT = 1.01  # a window may hold one period's event more than periods


@dataclasses.dataclass
class Row:
    """One figure of every system; each a list with one value a repetition."""

    key: str
    title: str
    unit: str
    values: dict[str, list[float]]
    digits: int = 2
    aim: str = ""  # in words
    verdicts: dict[str, bool] = dataclasses.field(default_factory=dict)  # met, by system

    def middle(self, system):
        values = self.values.get(system)
        return statistics.median(values) if values else None

    def spread(self, system):
        values = self.values[system]
        return min(values), max(values)

    def judge(self, aim, systems, met):
        """Compares the middle of each system with an aim."""
        self.aim = aim
        self.verdicts = {name: met(self.middle(name)) for name in systems if self.middle(name) is not None}
        return self


@dataclasses.dataclass
class Section:
    """Rows that belong together."""

    title: str
    rows: list[Row]


def collect(found):
    """All sections of what was measured."""
    sections = []
    if "latency" in found:
        sections.append(latency(found["latency"]))
    if "clean" in found:
        sections.append(clean(found["clean"]))
    if "steady" in found:
        idle = {system: shapes["idle"] for system, shapes in found["steady"].items()}
        for shape in found["steady"][DIRECT]:
            if shape != "idle":
                runs = {system: shapes[shape] for system, shapes in found["steady"].items()}
                sections.append(steady(shape, runs, idle[DIRECT]))
        sections.append(silence(idle))
    if "cards" in found:
        sections += many(found["cards"])
    return sections


def row(key, title, unit, by_system, digits=2):
    return Row(key, title, unit, {name: values for name, values in by_system.items() if values}, digits)


def latency(found):
    def figure(key, title, unit="ms", digits=2):
        return row(key, title, unit, {name: found[name].get(key) for name in SYSTEMS}, digits)

    first = figure("first_sample", "open to first sample on the far side")
    floor = first.middle(DIRECT)
    first.judge(f"at most {floor + 0.5:.2f} (0.5 over direct)", [ALSA], lambda value: value <= floor + 0.5)
    control = figure("control_request", "control request (PREPARE)", "\N{MICRO SIGN}s", 1)
    control.judge("at most 10", OURS, lambda value: value <= 10)
    rested = figure("control_request_rested", "the same, the device asleep", "\N{MICRO SIGN}s", 1)
    transport = row("transport", "bare transport: 64 bytes from virtio_rng and back", "\N{MICRO SIGN}s",
                    {NULL: found["transport"]["transport"]}, 1)
    return Section("Start and control", [
        figure("card_usable", "adapter start to card usable", digits=1), figure("open", "open"),
        figure("hw_params", "hw_params"), figure("prepare", "prepare", digits=3),
        figure("trigger", "trigger: write to RUNNING", digits=3), first, control, rested, transport,
    ])


def clean(found):
    rows = []
    for periods in (4, 16):
        smallest = {name: [run["smallest"] for run in found[name][f"clean x{periods}"] if run["smallest"]]
                    for name in SYSTEMS}
        # One repetition without any clean period leaves no figure.
        whole = {name: values for name, values in smallest.items()
                 if len(values) == len(found[name][f"clean x{periods}"])}
        rows.append(row(f"clean{periods}", f"smallest clean period x {periods}", "frames", whole, 0))
    floor = max(192, rows[0].middle(DIRECT) or 0)
    rows[0].judge(f"at most {floor:.0f}", OURS, lambda value: value <= floor)
    rows.append(row("drain", "drain late by", "ms", {name: found[name]["drain_error"] for name in SYSTEMS}))
    error = {name: [abs(frames) for frames in found[name]["delay_error"]] for name in (DIRECT, ALSA)}
    delay = row("delay", "reported delay wrong by, 480 x 4", "frames", {n: [max(v)] for n, v in error.items() if v}, 0)
    rows.append(delay.judge("at most 480 (one period)", [ALSA], lambda value: value <= 480))
    return Section("Small periods, drain, delay", rows)


def steady(shape, runs, idle):
    period = int(shape.split("x")[0])
    limit = DEVICE_AIMS.get(shape)

    def cpu(part, title):
        return row(f"cpu {part}", f"CPU: {title}", "ms/s",
                   {name: [run["cpu"][part] for run in runs[name] if part in run["cpu"]] for name in SYSTEMS})

    def syscalls(part, title):
        return row(f"syscalls {part}", f"system calls: {title}", "a period",
                   {name: [run["syscalls"][part] for run in runs[name] if part in run["syscalls"]] for name in SYSTEMS})

    def count(key, title, digits=2):
        return row(key, title, "a period",
                   {name: [run[key] for run in runs[name] if key in run] for name in SYSTEMS}, digits)

    device = cpu("device", "device process")
    if limit:
        device.judge(f"at most {limit:g}", OURS, lambda value: value <= limit)
    own = statistics.median(run["switches"] for run in idle) * period / RATE
    switches = count("switches", "context switches, whole system")
    above = row("switches above idle", f"the same without the idle guest's {own:.2f}", "a period",
                {name: [value - own for value in values] for name, values in switches.values.items()})
    above.judge("at most 4", OURS, lambda value: value <= 4 * ONE_EVENT)
    return Section(f"Playing {shape.replace('x', ' x ')} ({period / RATE * 1000:g} ms a period)", [
        cpu("application", "application (aplay)"), cpu("adapter", "adapter"), device,
        cpu("kernel threads", "kernel's workers"), cpu("whole system", "whole system, with interrupts"),
        switches, above,
        syscalls("application", "application"), syscalls("adapter", "adapter"), syscalls("device", "device process"),
        count("kicks", "kicks").judge("0", OURS, lambda value: value == 0),
        count("interrupts", "interrupts").judge("at most 1", OURS, lambda value: value <= ONE_EVENT),
        count("bounced bytes", "bounced bytes", 1),
    ])


def silence(idle):
    """What a card costs that plays nothing."""
    def cpu(part, title):
        return row(f"idle {part}", f"CPU: {title}", "ms/s",
                   {name: [run["cpu"][part] for run in runs if part in run["cpu"]] for name, runs in idle.items()}, 3)

    return Section("Nothing plays", [
        cpu("adapter", "adapter"), cpu("device", "device process"), cpu("whole system", "whole system"),
        row("idle switches", "context switches, whole system", "a second",
            {name: [run["switches"] for run in runs] for name, runs in idle.items()}, 1),
    ])


def many(found):
    """What one of many cards costs: a section for each number of cards."""
    counts = list(found[ALSA])
    return [one_of(count, {name: found[name].get(count, []) for name in found}) for count in counts]


def one_of(count, runs):
    def cpu(part, title):
        return row(f"cards {count} cpu {part}", f"CPU: {title}", "ms/s",
                   {name: [run["cpu"][part] for run in runs[name] if part in run["cpu"]] for name in runs})

    def memory(title, *parts):
        return row(f"cards {count} memory {' '.join(parts)}", f"memory: {title}", "MiB",
                   {name: [sum(run["memory"][part] for part in parts) / MIB for run in runs[name]] for name in runs
                    if all(set(parts) <= set(run["memory"]) for run in runs[name])})

    def counter(key, title, unit="a period", digits=2):
        by_system = {name: [run[key] for run in runs[name] if key in run] for name in runs}
        return row(f"cards {count} {key}", title, unit, by_system, digits)

    whole = memory("device, adapter and kernel", "device", "adapter", "kernel")
    whole.judge("at most 4", [ALSA], lambda value: value <= 4)
    return Section(f"{count} cards play 480 x 16: each costs" if count != "1" else "1 card plays 480 x 16", [
        cpu("device", "device process"), cpu("adapter", "adapter"), cpu("whole system", "whole system"),
        counter("switches", "context switches"), counter("kicks", "kicks"), counter("interrupts", "interrupts"),
        counter("underruns", "underruns of all players", "", 0),
        memory("device process", "device"), memory("adapter", "adapter"), memory("kernel", "kernel"), whole,
    ])
