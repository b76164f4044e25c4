# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Compares what was recorded with what was played, frame by frame.

A recording starts before the sound and ends after it, so it holds silence on both
sides. The sound's first frame that is not silent is laid on the recording's; from
there on each byte has to be the same, and nothing but silence may follow.
"""

import dataclasses

BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What became of a sound. Frames are counted from 0; lengths are in frames."""

    frames_in: int
    # Frames of the recording from the sound's start to its end, or to the last that is
    # not silent, whichever is later; fewer than frames_in if the recording ends first.
    frames_out: int
    # Where in the recording the sound starts; None if the recording is all silence.
    start: int | None
    # The first frame of the sound that is missing or different, or the first one past
    # its end that is not silent; None if there is no such frame.
    first_difference: int | None
    # Where in the sound that frame's successors come from, when they can be found.
    continues_at: int | None = None

    @property
    def exact(self):
        return self.start is not None and self.first_difference is None and self.frames_in == self.frames_out

    @property
    def arrived(self):
        """Every frame arrived, whatever follows the last: where snd-aloop is the microphone,
        what it hands out behind the end is its own, see compare()."""
        return self.exact or (self.start is not None and self.first_difference == self.frames_in)

    def __str__(self):
        text = f"{self.frames_in} frames in, {self.frames_out} out"
        if self.start is None:
            return f"{text}; the recording is silent"
        if self.first_difference is None:
            return f"{text}, no difference"
        text += f", first difference at frame {self.first_difference}"
        if self.continues_at is not None:
            text += f", where the recording goes on with frame {self.continues_at} of the sound"
        return text


def compare(sent, received, frame_bytes, silent_byte=0, recorder_frames=0):
    """Compares two runs of whole interleaved frames. `silent_byte` is 0x80 for U8.

    snd-aloop does not silence the last few milliseconds of the recorder's buffer when its
    other side stops: the recorder reads there what it has read one buffer earlier. With
    `recorder_frames`, the length of that buffer, such frames behind the end do not count.
    """
    sent, received = bytes(sent), bytes(received)
    if not sent or len(sent) % frame_bytes:
        raise ValueError(f"{len(sent)} bytes are not a sound of whole frames of {frame_bytes} bytes")
    received = received[: len(received) // frame_bytes * frame_bytes]
    silence = bytes([silent_byte])
    first_sent = _first_loud(sent, silence, frame_bytes)
    if first_sent is None:
        raise ValueError("a silent sound cannot be found in a recording")
    frames_in = len(sent) // frame_bytes
    first_received = _first_loud(received, silence, frame_bytes)
    if first_received is None:
        return Comparison(frames_in, 0, None, 0)

    start = first_received - first_sent
    if start < 0:
        # The recording holds less silence before the sound than the sound itself.
        sent_at, received_at = -start * frame_bytes, 0
    else:
        sent_at, received_at = 0, start * frame_bytes
    end = received_at + len(sent) - sent_at
    tail = _without_echo(received, end, recorder_frames * frame_bytes, frame_bytes, silence)
    extra = len(tail.rstrip(silence))
    available = (len(received) - received_at) // frame_bytes + max(-start, 0)
    frames_out = min(frames_in, available) - max(-start, 0) + -(-extra // frame_bytes)

    if start < 0:
        return Comparison(frames_in, frames_out, start, 0)
    at = _first_difference(sent, received[received_at : received_at + len(sent)])
    if at is None and extra:
        at = len(sent) + len(tail) - len(tail.lstrip(silence))
    if at is None:
        return Comparison(frames_in, frames_out, start, None)
    frame = at // frame_bytes
    there = received[received_at + frame * frame_bytes :][: 16 * frame_bytes]
    return Comparison(frames_in, frames_out, start, frame, _find_frames(sent, there, frame_bytes))


def _first_loud(sound, silence, frame_bytes):
    quiet = len(sound) - len(sound.lstrip(silence))
    return None if quiet == len(sound) else quiet // frame_bytes


def _without_echo(received, end, lap, frame_bytes, silence):
    """What lies behind `end`, where frames that are the same one lap earlier are silenced."""
    tail = bytearray(received[end:])
    if not lap or end < lap:
        return bytes(tail)
    for at in range(0, len(tail.rstrip(silence)), frame_bytes):
        if tail[at : at + frame_bytes] == received[end + at - lap : end + at - lap + frame_bytes]:
            tail[at : at + frame_bytes] = silence * frame_bytes
    return bytes(tail)


def _first_difference(sent, received):
    """Offset of the first byte in which the two differ, or where the shorter one ends."""
    for block in range(0, len(sent), BLOCK):
        left, right = sent[block : block + BLOCK], received[block : block + BLOCK]
        if left != right:
            pairs = zip(left, right)
            return block + next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
    return None


def _find_frames(sound, frames, frame_bytes):
    if len(frames) < 16 * frame_bytes:
        return None
    at = sound.find(frames)
    while at >= 0 and at % frame_bytes:
        at = sound.find(frames, at + 1)
    return at // frame_bytes if at >= 0 else None
