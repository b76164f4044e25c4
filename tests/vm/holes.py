# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What is recorded of a sound that was interrupted: pieces of it, in order, and the holes between them."""

import dataclasses

PROBE = 16  # frames by which a piece is found again
# snd-aloop's pointer moves in steps of so many frames: what is measured may be one longer than what was.
TICK = 192


@dataclasses.dataclass(frozen=True)
class Piece:
    """Frames of a sound that follow each other, and where the recording has them."""

    start: int
    frames: int
    recorded: int

    @property
    def end(self):
        return self.start + self.frames

    @property
    def recorded_end(self):
        return self.recorded + self.frames


@dataclasses.dataclass(frozen=True)
class Hole:
    """Between two pieces: frames of the recording, and frames of the sound that are not in it."""

    length: int
    missing: int


def pieces(sound, recording, echo=0):
    """The pieces of `sound`; whatever else is recorded has to be silence.

    `echo`: where snd-aloop's other side stops, its recorder reads some frames once more that it has read
    one buffer of so many frames earlier.
    """
    frame = sound.layout.frame_bytes
    sent, received = sound.data, recording.data
    found, at = [], 0
    while (at := _next_sound(received, at, frame, echo)) is not None:
        probe = received[at * frame : (at + PROBE) * frame]
        start = _find(sent, probe, frame, found[-1].end if found else 0)
        assert start is not None, f"frame {at} of the recording is no part of the sound that follows {found[-1:]}"
        length = _common(sent[start * frame :], received[at * frame :], frame)
        found.append(Piece(start, length, at))
        at += length
    return found


def holes(found):
    return [
        Hole(after.recorded - before.recorded_end, after.start - before.end) for before, after in zip(found, found[1:])
    ]


def check(found, sound, longest, times=1, unread=0):
    """The whole sound but for so many holes of at most so many frames; nothing of it twice, or in another order.

    No more of the sound is missing than the hole is long, but for a tick at either end: of the card's clock where the
    sound ends, and of its start where the sound goes on. `unread`: so much of what a real card had captured may be
    missing beyond it.
    """
    assert found and found[0].start == 0 and found[-1].end == sound.frames, found
    gaps = holes(found)
    assert len(gaps) == times, found
    for gap in gaps:
        assert gap.length <= longest + TICK and 0 <= gap.missing <= gap.length + unread + 2 * TICK, gaps
    return gaps


def check_told(stream, direction, gaps, slack):
    """What a device process says of a stream is what became of the sound: so many holes, and what is missing there,
    but for so many frames of each."""
    assert stream["direction"] == direction and stream["gaps"] == len(gaps), (stream, gaps)
    missing = sum(gap.missing for gap in gaps)
    assert abs(stream["lost"] - missing) <= len(gaps) * slack, (stream, gaps)


def _next_sound(received, at, frame, echo):
    """The next frame of the recording that is neither silent nor an echo."""
    silence = bytes(frame)
    for number in range(at, len(received) // frame - PROBE):
        here = received[number * frame : (number + 1) * frame]
        if here == silence:
            continue
        lap = (number - echo) * frame
        if echo and lap >= 0 and here == received[lap : lap + frame]:
            continue
        return number
    return None


def _find(sent, probe, frame, start):
    at = sent.find(probe, start * frame)
    while at >= 0 and at % frame:
        at = sent.find(probe, at + 1)
    return at // frame if at >= 0 else None


def _common(left, right, frame):
    """How many frames both begin with."""
    length, block = min(len(left), len(right)) // frame * frame, 4096 * frame
    for at in range(0, length, block):
        end = min(at + block, length)
        if left[at:end] != right[at:end]:
            frames = range(at, end, frame)
            return next(at // frame for at in frames if left[at : at + frame] != right[at : at + frame])
    return length // frame
