# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One picture of the benchmark: the figures that have an aim, and where the CPU goes."""

import statistics

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from figures import ALSA, DEVICE_AIMS, DIRECT, MIB, NULL, SYSTEMS  # noqa: E402

INK, SOFT, GRID, PAPER = "#1d2433", "#6b7385", "#e6e9f0", "#fafbfd"
COLOURS = {DIRECT: "#9aa3b5", ALSA: "#3b6fd4", NULL: "#1f9d78"}
MET, MISSED = "#1f9d78", "#d1373f"
PARTS = {"application": "#9aa3b5", "adapter": "#e0a030", "device": "#3b6fd4", "kernel threads": "#7a55c7",
         "rest": "#d5dae4"}
PART_NAMES = {"application": "application", "adapter": "adapter", "device": "device process",
              "kernel threads": "kernel's workers", "rest": "interrupts and switching"}
# Which figures are shown: key, title, unit, aim as a line (None: over direct).
SHOWN = [("control_request", "Control request", "\N{MICRO SIGN}s", 10),
         ("first_sample", "Open to first sample", "ms", None),
         ("clean4", "Smallest clean period x 4", "frames", 192),
         ("switches above idle", "Context switches a period, 480 x 16", "", 4),
         ("interrupts", "Interrupts a period, 480 x 16", "", 1),
         ("kicks", "Kicks a period, 480 x 16", "", 0)]


def draw(sections, found, path, about):
    """Writes the picture to `path` and returns it."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": GRID,
                         "xtick.color": SOFT, "ytick.color": INK, "axes.labelcolor": SOFT})
    figure = plt.figure(figsize=(13, 11), dpi=130, facecolor="white")
    grid = figure.add_gridspec(4, 6, left=0.105, right=0.975, top=0.875, bottom=0.075, hspace=0.85, wspace=1.0)
    head(figure, sections)
    rows = {row.key: row for section in sections for row in section.rows}
    for place, (key, name, unit, aim) in enumerate(SHOWN):
        axis = figure.add_subplot(grid[place // 3, 2 * (place % 3) : 2 * (place % 3) + 2])
        bars(axis, rows.get(key), name, unit, aim)
    shapes = [shape for shape in found.get("steady", {}).get(DIRECT, {}) if shape != "idle"]
    for place, shape in enumerate(shapes[:2]):
        cpu(figure.add_subplot(grid[2, 3 * place : 3 * place + 3]), found["steady"], shape, DEVICE_AIMS.get(shape))
    if "cards" in found:
        many(figure.add_subplot(grid[3, :3]), figure.add_subplot(grid[3, 3:]), found["cards"][ALSA])
    figure.text(0.975, 0.012, about.split(". ")[0], size=7.5, color=SOFT, ha="right")
    figure.savefig(path)
    plt.close(figure)
    return path


def head(figure, sections):
    verdicts = [met for section in sections for row in section.rows for met in row.verdicts.values()]
    figure.text(0.025, 0.962, "An application straight on a sound card, and through virtio-loopback", size=17,
                weight="bold")
    good = all(verdicts)
    figure.text(0.025, 0.936, f"{sum(verdicts)} of {len(verdicts)} aims met", size=12, weight="bold",
                color=MET if good else MISSED)
    how = "deterministic virtual machine: 1 ms is one million instructions"
    figure.text(0.975, 0.936, how, size=9.5, color=SOFT, ha="right")


def bars(axis, row, name, unit, aim):
    """One figure: a bar a system, a whisker from the smallest to the largest, the aim as a line."""
    title(axis, name, unit)
    frame(axis)
    if row is None or not row.values:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, color=SOFT, ha="center", va="center")
        axis.set_yticks([])
        return
    systems = [system for system in SYSTEMS if system in row.values]
    middles = [row.middle(system) for system in systems]
    if aim is None:
        aim = row.middle(DIRECT) + 0.5
    top = max(*middles, aim, 0.5)
    for place, (system, middle) in enumerate(zip(systems, middles)):
        low, high = row.spread(system)
        axis.barh(place, middle, height=0.56, color=COLOURS[system], lw=0)
        axis.plot([low, high], [place, place], color=INK, lw=1)
        met = row.verdicts.get(system)
        colour = INK if met is None else MET if met else MISSED
        mark = "" if met is None else " \N{CHECK MARK}" if met else " \N{MULTIPLICATION X}"
        # A whisker that leaves the picture does not take the figure with it.
        axis.text(min(max(middle, high), 1.05 * top) + 0.02 * top, place,
                  f"{middle:,.{row.digits}f}{mark}", va="center", size=9,
                  color=colour, weight="bold", bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1})
    axis.axvline(aim, color=SOFT, lw=1.1, ls=(0, (4, 2)))
    axis.text(aim, -0.62, f"aim {aim:,.{0 if aim == int(aim) else 2}f}", size=7.5, color=SOFT, ha="left", va="bottom")
    axis.set_yticks(range(len(systems)), [SYSTEMS[system] for system in systems])
    axis.set_ylim(len(systems) - 0.45, -0.75)
    axis.set_xlim(0, top * 1.25)


def cpu(axis, steady, shape, aim):
    """Where the CPU of a second of sound goes."""
    wanted = f", device process: aim {aim:g}" if aim else ""
    title(axis, f"CPU, playing {shape.replace('x', ' x ')}", f"ms per second of sound{wanted}")
    frame(axis)
    for place, system in enumerate(steady):
        runs = [run["cpu"] for run in steady[system][shape]]
        middle = {part: statistics.median(run.get(part, 0) for run in runs) for part in [*PARTS, "whole system"]}
        middle["rest"] = max(middle["whole system"] - sum(middle[part] for part in PARTS if part != "rest"), 0)
        left = 0
        for part, colour in PARTS.items():
            name = PART_NAMES[part] if place == 0 else None
            axis.barh(place, middle[part], left=left, height=0.56, color=colour, lw=0, label=name)
            if part == "device" and middle[part] > 0.03 * middle["whole system"]:
                axis.text(left + middle[part] / 2, place, f"{middle[part]:.2f}", color="white", size=8, ha="center",
                          va="center", weight="bold")
            left += middle[part]
        axis.text(left, place, f"  {left:.2f}", va="center", size=9, weight="bold")
    axis.set_yticks(range(len(steady)), [SYSTEMS[system] for system in steady])
    axis.set_ylim(len(steady) - 0.45, -0.55)
    axis.margins(x=0.12)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, frameon=False, fontsize=7.5,
                handlelength=0.9, columnspacing=1.0, handletextpad=0.4)


def many(left, right, found):
    """CPU and memory of one of many cards."""
    counts = list(found)
    places = range(len(counts))
    for axis, name, unit in ((left, "CPU of one of many cards, 480 x 16", "ms per second of sound"),
                             (right, "Memory of one of many cards", "MiB")):
        title(axis, name, unit)
        frame(axis, "y")
        axis.set_xticks(places, [f"{count} card{'s' if count != '1' else ''}" for count in counts])
        axis.tick_params(axis="x", labelcolor=INK)
    stack(left, [{part: statistics.median(run["cpu"][part] for run in found[count]) for part in ("adapter", "device")}
                 for count in counts])
    stack(right, [{part: statistics.median(run["memory"][part] for run in found[count]) / MIB
                   for part in ("adapter", "device", "kernel")} for count in counts])
    right.axhline(4, color=SOFT, lw=1.1, ls=(0, (4, 2)))
    right.text(len(counts) - 0.45, 4, "aim 4", size=7.5, color=SOFT, ha="right", va="bottom")


def stack(axis, columns):
    colours = {**PARTS, "kernel": PARTS["kernel threads"]}
    for place, column in enumerate(columns):
        bottom = 0
        for part, value in column.items():
            axis.bar(place, value, bottom=bottom, width=0.5, color=colours[part], lw=0,
                     label=part if place == 0 else None)
            bottom += value
        axis.text(place, bottom, f"{bottom:.2f}", ha="center", va="bottom", size=9, weight="bold")
    axis.set_xlim(-0.6, len(columns) - 0.4)
    axis.margins(y=0.2)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False, fontsize=7.5,
                handlelength=0.9, columnspacing=1.0, handletextpad=0.4)


def title(axis, text, unit):
    axis.text(0, 1.08, text, transform=axis.transAxes, size=11, weight="bold", va="bottom")
    axis.text(1, 1.08, unit, transform=axis.transAxes, size=8.5, color=SOFT, va="bottom", ha="right")


def frame(axis, grid="x"):
    axis.set_facecolor(PAPER)
    axis.grid(axis=grid, color=GRID, lw=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
