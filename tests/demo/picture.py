# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One picture of the scene: what each card plays, what is heard of it, and the mix, over time."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import scene as scenes  # noqa: E402
from matplotlib.ticker import MultipleLocator  # noqa: E402

INK, SOFT, GRID, WRONG, RIGHT = "#1d2433", "#6b7385", "#e3e7ef", "#d1373f", "#1f9d78"
COLOURS = {"music": "#3b6fd4", "navigation": "#e0861a", "phone": "#8a4fc9"}
ROLES = {"music": "Multimedia, 25", "navigation": "Navigation, 50", "phone": "Communication, 75"}
COLUMNS = 1100  # of a waveform: one thin line a column, from its lowest to its highest sample
WIDTH, HEIGHT = 13, 7.4
LEFT, RIGHT_EDGE, TOP, BOTTOM = 0.132, 0.982, 0.825, 0.085
TITLE = "A prompt ducks the music, a phone call silences both, and the music comes back"
WHY = {
    ("a call", "music"): "the player waits",
    ("a call", "navigation"): "time passes unheard",
}


def draw(scene, path, version, credit):
    """Writes the picture to `path` and returns it."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "xtick.color": SOFT})
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=110, facecolor="white")
    grid = figure.add_gridspec(4, 1, height_ratios=[1, 1, 1, 1.35], left=LEFT, right=RIGHT_EDGE, top=TOP,
                               bottom=BOTTOM, hspace=0.16)
    head(figure, scene, version)
    axes = [figure.add_subplot(grid[row]) for row in range(4)]
    for axis, card in zip(axes, scene.sounds, strict=False):
        draw_card(axis, scene, card)
    draw_mix(axes[-1], scene)
    for axis in axes:
        frame(axis, scene, last=axis is axes[-1])
    label_phases(axes[0], scene)
    figure.text(RIGHT_EDGE, 0.018, credit, size=7.5, color=SOFT, ha="right")
    figure.savefig(path, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def head(figure, scene, version):
    figure.text(0.02, 0.945, TITLE, size=16.5, weight="bold")
    right = scene.is_right()
    verdict = "Every level is what the policy asks for." if right else "Not every level is what the policy asks for."
    figure.text(0.02, 0.903, verdict, size=11.5, weight="bold", color=RIGHT if right else WRONG)
    how = f"three virtual cards  \N{RIGHTWARDS ARROW}  three processes  \N{RIGHTWARDS ARROW}  " \
          f"PipeWire, WirePlumber {version} with AGL's roles  \N{RIGHTWARDS ARROW}  one real card, recorded here"
    figure.text(RIGHT_EDGE, 0.903, how, size=9, color=SOFT, ha="right")


def draw_card(axis, scene, card):
    waveform(axis, played_by(scene, card), COLOURS[card], 0.2)
    waveform(axis, heard_of(scene, card), COLOURS[card], 1)
    for phase in scene.phases:
        label_level(axis, phase, card, len(scene.mix))
    name(axis, card, f"role {ROLES[card]}", COLOURS[card])


def draw_mix(axis, scene):
    """The recording, with what it has of each card on it, the loudest behind."""
    waveform(axis, scene.mix, SOFT, 0.5)
    for phase in scene.phases:
        loudest_first = sorted(phase.levels, key=lambda card: -(phase.levels[card] or 0))
        for card in loudest_first:
            alone = np.zeros(len(scene.mix))
            alone[phase.start : phase.end] = heard_of(scene, card)[phase.start : phase.end]
            waveform(axis, alone, COLOURS[card], 0.9)
    name(axis, "the mix", "what the real card got", INK)


def played_by(scene, card):
    """What an application plays on a card, on the time of the mix."""
    return sum(scene.placed(take) for take in scene.takes if take.card == card)


def heard_of(scene, card):
    heard = np.zeros(len(scene.mix))
    for phase in scene.phases:
        if phase.levels[card] and abs(phase.levels[card]) > scenes.CLOSE:
            part = slice(phase.start, phase.end)
            heard[part] = phase.levels[card] * played_by(scene, card)[part]
    return heard


def label_level(axis, phase, card, frames):
    level, wanted = phase.levels[card], phase.wanted[card]
    if wanted is None:
        return
    colour = INK if phase.is_right(card) else WRONG
    text = f"\N{MULTIPLICATION SIGN} {abs(level):.2f}"
    start, width = phase.start / scenes.RATE, 0.012 * frames / scenes.RATE
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.2}
    axis.text(start + width, 0.86, text, size=9.5, weight="bold", color=colour, va="center", bbox=box)
    if why := WHY.get((phase.name, card)):
        axis.text((phase.start + phase.end) / 2 / scenes.RATE, -0.82, why, size=8.5, color=SOFT, style="italic",
                  ha="center", va="center", bbox=box)


def label_phases(axis, scene):
    for phase in scene.phases:
        middle = (phase.start + phase.end) / 2 / scenes.RATE
        axis.text(middle, 1.08, phase.name, transform=axis.get_xaxis_transform(), size=10.5, weight="bold",
                  ha="center", va="bottom")


def waveform(axis, samples, colour, alpha):
    width = max(len(samples) // COLUMNS, 1)
    blocks = samples[: len(samples) // width * width].reshape(-1, width)
    times = np.arange(len(blocks)) * width / scenes.RATE
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    axis.fill_between(times, low, high, where=high > low, color=colour, alpha=alpha, lw=0)


def name(axis, text, detail, colour):
    axis.text(-0.013, 0.56, text, transform=axis.transAxes, size=12, weight="bold", color=colour, ha="right")
    axis.text(-0.013, 0.36, detail, transform=axis.transAxes, size=8.2, color=SOFT, ha="right", va="center")


def frame(axis, scene, last):
    axis.set_facecolor("#fafbfd")
    axis.set_xlim(0, len(scene.mix) / scenes.RATE)
    axis.set_ylim(-1.08, 1.08)
    axis.set_yticks([])
    axis.axhline(0, color=GRID, lw=0.8, zorder=0)
    for phase in scene.phases[1:]:
        axis.axvline(phase.start / scenes.RATE, color=SOFT, lw=0.8, ls=(0, (4, 3)))
    axis.xaxis.set_major_locator(MultipleLocator(2))
    axis.tick_params(length=0, labelbottom=last)
    if last:
        axis.set_xlabel("seconds", color=SOFT, labelpad=1)
    for side in axis.spines.values():
        side.set_visible(False)
