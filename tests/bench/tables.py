# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The figures as tables: for the terminal and as Markdown."""

from figures import SYSTEMS
from tabulate import tabulate

MET, MISSED = "met", "MISSED"
HOW = """\
## How it is measured
- **Adapter start to card usable**: from before `virtio-loopback run` is started until `snd_pcm_open` succeeds; the
  device process waits already.
- **open, hw_params, prepare, trigger**: the calls of an application that plays 6000 x 4. hw_params has a prepare in
  it, as alsa-lib does it; on the alsa host it opens and configures the real card, which on *direct* is part of open
  and hw_params. Trigger is the write after which the PCM is running.
- **Open to first sample**: until the far side of snd-aloop has the first sample. snd-aloop moves with the tick of 4
  ms; the openings begin at evenly spread places within a tick, so that the mean is half a tick late on every system
  alike.
- **Control request**: the mean of many `snd_pcm_prepare` on the virtual card, one after the other, and with pauses
  in which the device sleeps.
- **Smallest clean period**: ten seconds of frames that carry their own numbers; every one arrives once and in
  order, and no underrun or error is seen. The null host has no far side: there it is underruns and errors alone.
- **CPU**: run time of the processes' threads from schedstat; the whole system is all time that was not idle,
  interrupts included. Kernel code that an interrupt runs on top of a process counts for that process: virtio_snd's
  handler runs on top of the device process that called it.
- **Context switches** are those of the whole guest. What the idle guest does by itself was measured before, and is
  taken off in the line below.
- **Memory**: Pss of device process and adapter, so that a shared page counts once, and what the kernel took for a
  card, its players' part included.
"""


def cell(row, system):
    """The middle, and the spread where there is one."""
    middle = row.middle(system)
    if middle is None:
        return "\N{EN DASH}"
    low, high = row.spread(system)
    text = f"{middle:,.{row.digits}f}"
    if f"{low:.{row.digits}f}" != f"{high:.{row.digits}f}":
        text += f" [{low:,.{row.digits}f}\N{EN DASH}{high:,.{row.digits}f}]"
    return text


def verdict(row):
    """What became of the aim, and on which host if they differ."""
    if not row.verdicts:
        return ""
    if len(set(row.verdicts.values())) == 1:
        return MET if all(row.verdicts.values()) else MISSED
    return ", ".join(f"{SYSTEMS[name].removeprefix('ours, ')}: {MET if met else MISSED}"
                     for name, met in row.verdicts.items())


def table(section, style):
    lines = [[row.title, row.unit, *(cell(row, name) for name in SYSTEMS), row.aim, verdict(row)]
             for row in section.rows]
    heads = [section.title, "unit", *SYSTEMS.values(), "aim", ""]
    align = ["left", "left", *("right" for _ in SYSTEMS), "left", "left"]
    return tabulate(lines, heads, tablefmt=style, colalign=align, disable_numparse=True)


def busiest(found):
    """Which system calls and which switches a period is made of."""
    for system, shapes in found.get("steady", {}).items():
        for shape, runs in shapes.items():
            if shape == "idle":
                continue
            calls = runs[0]["syscall_names"]
            switches = runs[0]["switched"]
            yield (f"{SYSTEMS[system]}, {shape}", listing(calls), listing(switches))


def listing(counts):
    return ", ".join(f"{name} {count:.2f}" for name, count in counts.items() if count >= 0.05)


def markdown(sections, found, about):
    """The whole report."""
    text = ["# Benchmark", "", about, ""]
    for section in sections:
        text += [table(section, "pipe"), ""]
    rows = list(busiest(found))
    if rows:
        text += ["## Where a period goes", ""]
        text += [tabulate(rows, ["", "system calls a period", "context switches a period (from > to)"],
                          tablefmt="pipe", disable_numparse=True), ""]
    return "\n".join([*text, HOW])
