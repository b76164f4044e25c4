# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One picture of the demo: each file beside what its real card got."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator  # noqa: E402

INK, SOFT, GRID = "#1d2433", "#6b7385", "#e6e9f0"
SENT, GOT, WRONG = "#3b6fd4", "#1f9d78", "#d1373f"
COLUMNS = 900  # of a waveform: one thin line a column, from its lowest to its highest sample
CLOSE_UP = 0.003  # seconds


def draw(cards, path, credit):
    """Writes the picture to `path` and returns it."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": GRID,
                         "xtick.color": SOFT, "ytick.color": SOFT, "axes.labelcolor": SOFT})
    rows = len(cards)
    figure = plt.figure(figsize=(13, 1.9 + 2.75 * rows), dpi=130, facecolor="white")
    grid = figure.add_gridspec(rows, 3, width_ratios=[1, 1, 0.78], left=0.055, right=0.98, wspace=0.13,
                               top=1 - 1.5 / (1.9 + 2.75 * rows), bottom=0.62 / (1.9 + 2.75 * rows), hspace=0.52)
    head(figure, cards)
    longest = max(card["result"].frames_in / card["rate"] for card in cards)
    for row, card in enumerate(cards):
        axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
        draw_card(axes, card, longest)
    figure.text(0.98, 0.1 / figure.get_figheight(), credit, size=7.5, color=SOFT, ha="right")
    figure.savefig(path)
    plt.close(figure)
    return path


def head(figure, cards):
    exact = all(card["result"].exact for card in cards)
    height = figure.get_figheight()
    figure.text(0.055, 1 - 0.42 / height, "Two virtual cards play at the same time, each on its own real card",
                size=17, weight="bold")
    verdict = "Every sample arrived, in order, once." if exact else "Not every sample arrived."
    how = "aplay  →  ALSA  →  virtio_snd  →  virtio_loopback  →  vhost-user-sound  →  the real card"
    figure.text(0.055, 1 - 0.75 / height, verdict, size=12, weight="bold", color=GOT if exact else WRONG)
    figure.text(0.98, 1 - 0.75 / height, how, size=9.5, color=SOFT, ha="right")


def draw_card(axes, card, seconds):
    sent, got, offset = samples_of(card)
    result, rate = card["result"], card["rate"]
    peak = max(np.abs(sent).max(), np.abs(got).max() if len(got) else 0, 0.5) * 1.08
    kind = {1: "mono", 2: "stereo"}.get(card["channels"], f"{card['channels']} channels")
    waveform(axes[0], sent, rate, peak, SENT)
    shape = f"{rate:,} Hz, {kind}, {result.frames_in:,} frames"
    title(axes[0], f"{card['name']}: the file", f"{card['file'].name}, {shape}")
    waveform(axes[1], got, rate, peak, GOT)
    arrived = "no difference" if result.exact else f"first difference at frame {result.first_difference:,}"
    title(axes[1], "what the real card got", f"{result.frames_out:,} frames, {arrived}, {card['xruns']} xruns",
          SOFT if result.exact else WRONG)
    if not result.exact and result.first_difference is not None:
        axes[1].axvline(result.first_difference / rate, color=WRONG, lw=1.2)
    close_up(axes[2], sent, got, rate, where(card, sent))
    for axis in axes[:2]:
        axis.set_xlim(0, seconds)
        axis.yaxis.set_major_locator(MultipleLocator(0.5))
        axis.set_xlabel("seconds", labelpad=1)


def samples_of(card):
    """The first channel of both, from -1 to 1, laid on each other; 16-bit samples."""
    sent = np.frombuffer(card["sent"], "<i2").reshape(-1, card["channels"])[:, 0] / 32768
    got = np.frombuffer(card["received"], "<i2")
    got = got[: len(got) // card["channels"] * card["channels"]].reshape(-1, card["channels"])[:, 0] / 32768
    start = max(card["result"].start or 0, 0)
    return sent, got[start : start + len(sent)], start


def where(card, sent):
    """The frame to look at closely: the first difference, or a loud place."""
    if not card["result"].exact and card["result"].first_difference:
        return max(card["result"].first_difference - int(CLOSE_UP * card["rate"] / 2), 0)
    step = card["rate"] // 20
    loud = [np.abs(sent[at : at + step]).mean() for at in range(0, len(sent) - step, step)]
    return int(np.argmax(loud)) * step


def waveform(axis, samples, rate, peak, colour):
    width = max(len(samples) // COLUMNS, 1)
    blocks = samples[: len(samples) // width * width].reshape(-1, width)
    times = np.arange(len(blocks)) * width / rate
    if len(blocks):
        axis.fill_between(times, blocks.min(axis=1), blocks.max(axis=1), color=colour, alpha=0.38, lw=0)
        level = np.sqrt((blocks**2).mean(axis=1))
        axis.fill_between(times, -level, level, color=colour, lw=0)
    axis.set_ylim(-peak, peak)
    axis.axhline(0, color="white", lw=0.5)
    frame(axis)


def close_up(axis, sent, got, rate, at):
    count = int(CLOSE_UP * rate)
    time = np.arange(count) / rate * 1000
    file, card = sent[at : at + count], got[at : at + count]
    axis.plot(time[: len(file)], file, color=SENT, lw=1.6, label="the file")
    axis.plot(time[: len(card)], card, "o", color=GOT, ms=2.9, label="the real card")
    axis.set_xlim(-0.02 * CLOSE_UP * 1000, CLOSE_UP * 1000)
    low, high = min(file.min(), 0), max(file.max(), 0)
    axis.set_ylim(low - 0.12 * (high - low), high + 0.38 * (high - low))
    title(axis, "both, sample by sample", f"{CLOSE_UP * 1000:.0f} ms from {at / rate:.2f} s on")
    axis.set_xlabel("milliseconds", labelpad=1)
    axis.legend(loc="upper right", ncols=2, frameon=False, fontsize=8, handlelength=1.3, columnspacing=1.2,
                borderaxespad=0.2)
    frame(axis)


def title(axis, text, detail, colour=SOFT):
    axis.text(0, 1.165, text, transform=axis.transAxes, size=11.5, weight="bold", va="bottom")
    axis.text(0, 1.045, detail, transform=axis.transAxes, size=8.8, color=colour, va="bottom")


def frame(axis):
    axis.set_facecolor("#fafbfd")
    axis.grid(axis="x", color=GRID, lw=0.8)
    axis.set_axisbelow(True)
    axis.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}")))
    axis.tick_params(length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
