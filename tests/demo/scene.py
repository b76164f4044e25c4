# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Finds in the mix what each card played, when, and how loud it is heard, phase by phase.

Nothing but the three sounds and the recording of the real card is known: each sound is looked for
in the part of the recording where its card played, by correlation, and its level there is the least
squares' answer to how much of each sound makes the mix.
"""

import dataclasses

import numpy as np

RATE = 48000
STEP = RATE // 20  # of the levels that are drawn, in frames
MARGIN = 2 * RATE // 5  # left out at both ends of a phase, where one sound gives way to another
CLOSE = 0.02
SILENCE = 1e-6  # of a sample
NOTHING = 1e-3  # of the mix's power
# What AGL's policy asks of each card while the last of them plays; None: it plays nothing.
POLICY = {
    "music alone": {"music": 1.0, "navigation": None, "phone": None},
    "a prompt": {"music": 0.2, "navigation": 1.0, "phone": None},
    "a call": {"music": 0.0, "navigation": 0.0, "phone": 1.0},
    "music again": {"music": 1.0, "navigation": None, "phone": None},
}


@dataclasses.dataclass
class Take:
    """A sound, or a part of one, as it lies in the mix: at frame `at` is its frame `skip`."""

    card: str
    at: int
    skip: int
    frames: int


@dataclasses.dataclass
class Phase:
    """Part of the mix, from frame `start` to frame `end`."""

    name: str
    start: int
    end: int
    levels: dict  # of each card; None: it plays nothing
    rest: float = 0.0  # share of the mix's power that none of the sounds explains

    @property
    def wanted(self):
        return POLICY[self.name]

    def is_right(self, card):
        level, wanted = self.levels[card], self.wanted[card]
        return wanted is None or abs(level - wanted) <= CLOSE


def find(sound, part):
    """The frame of `sound` that lies on the first frame of `part`; below 0: it starts later."""
    size = 1 << (len(sound) + len(part)).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(part, size))
    # Loud frequencies say hardly more about the place than soft ones do.
    match = np.fft.irfft(spectrum / np.sqrt(np.abs(spectrum) + 1e-9), size)
    place = int(np.argmax(match))
    return place if place < len(sound) else place - size


class Scene:
    """What the recording shows. `marks` are its lengths when each event of the scene came."""

    def __init__(self, mix, sounds, marks):
        self.mix, self.sounds, self.marks = mix, sounds, marks
        prompt = self._take("navigation", marks["prompt"], marks["call"])
        call = self._take("phone", marks["call"], marks["call ends"])
        first = self._take("music", 0, marks["prompt"])
        # It is silenced a little before the call is heard.
        stopped = prompt.at + int(np.flatnonzero(np.abs(mix[prompt.at : call.at]) > SILENCE)[-1]) + 1
        first.frames = stopped - first.at
        again = self._resumed(self._take("music", marks["call ends"] + MARGIN, len(mix)), call.at + call.frames)
        self.takes = [first, again, prompt, call]
        # How long the music was held, and how much of it was lost; below 0: heard again. Frames.
        self.held = again.at - stopped
        self.lost = again.skip - first.skip - first.frames
        self.phases = [self._phase(*row) for row in (
            ("music alone", first.at, prompt.at, [first]),
            ("a prompt", prompt.at, stopped, [first, prompt]),
            ("a call", call.at, call.at + call.frames, [self._going_on(first), prompt, call]),
            ("music again", again.at, len(mix), [again]),
        )]

    def _take(self, card, start, end):
        """Where the sound of a card lies that is heard between two frames of the mix."""
        sound = self.sounds[card]
        skip = find(sound, self.mix[start:end])
        at = start - min(skip, 0)
        return Take(card, at, max(skip, 0), len(sound) - max(skip, 0))

    def _going_on(self, take):
        """A take as it would go on if nothing had stopped it."""
        return dataclasses.replace(take, frames=len(self.sounds[take.card]) - take.skip)

    def _resumed(self, take, after):
        """The whole of a take that was found in its middle, or a little before it is heard: it begins behind
        frame `after`."""
        start = max(after, take.at - take.skip)
        whole = Take(take.card, start, take.skip - (take.at - start), len(self.mix) - start)
        sound = self.placed(whole)
        heard = slice(start, take.at + RATE)
        wrong = np.flatnonzero(np.abs(self.mix[heard] - sound[heard]) > CLOSE)
        late = int(wrong[-1]) + 1 if len(wrong) else 0
        return Take(take.card, start + late, whole.skip + late, whole.frames - late)

    def placed(self, take):
        """The sound of a take on the time of the mix."""
        lane = np.zeros(len(self.mix))
        sound = self.sounds[take.card][take.skip : take.skip + take.frames]
        end = min(take.at + len(sound), len(lane))
        start = max(take.at, 0)
        lane[start:end] = sound[start - take.at : end - take.at]
        return lane

    def _phase(self, name, start, end, takes):
        inner = slice(start + MARGIN, max(end - MARGIN, start + MARGIN + 1))
        lanes = np.array([self.placed(take)[inner] for take in takes])
        gains, *_ = np.linalg.lstsq(lanes.T, self.mix[inner], rcond=None)
        levels = dict.fromkeys(self.sounds)
        for take, gain in zip(takes, gains, strict=True):
            levels[take.card] = float(gain)
        rest = self.mix[inner] - gains @ lanes
        return Phase(name, start, end, levels, float((rest**2).sum() / max((self.mix[inner] ** 2).sum(), 1e-12)))

    @property
    def rest(self):
        """Share of the mix's power that none of the cards explains, in the worst phase."""
        return max(phase.rest for phase in self.phases)

    def is_right(self):
        """Every card is as loud as the policy asks for, and nothing else is heard."""
        right = all(phase.is_right(card) for phase in self.phases for card in self.sounds)
        return right and self.rest < NOTHING


def rows(scene):
    """The table: its head, and a row for each card in each phase."""
    yield ("phase", "card", "seconds", "level", "policy", "")
    for phase in scene.phases:
        seconds = f"{phase.start / RATE:.1f} - {phase.end / RATE:.1f}"
        for number, (card, level) in enumerate(phase.levels.items()):
            first = number == 0
            wanted = phase.wanted[card]
            found = "plays nothing" if level is None else f"{abs(level):.3f}"
            asked = "" if wanted is None else f"{wanted:g}"
            verdict = "" if wanted is None else "ok" if phase.is_right(card) else "WRONG"
            yield (phase.name if first else "", card, seconds if first else "", found, asked, verdict)
