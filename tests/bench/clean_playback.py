# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How small a period may be, how exact drain and delay are; in the guest."""

import json

from measuring_programs import measure, parse, path_of
from programs import Program, wait_until

RATE = 48000


def play(system, period, periods, seconds):
    """Plays numbered frames and listens; returns what the player and the listener say."""
    frames = seconds * RATE // period * period
    listener = None
    if system.far_end:
        listener = Program(path_of("count_listener"), system.far_end, frames)
        wait_until(lambda: "listening" in listener.output() or not listener.running(), "the listener")
    try:
        [played] = measure("count_player", system.pcm, period, periods, seconds)
        heard = None
        if listener:
            listener.wait(60)
            [heard] = parse(listener.output()) or [{"right": 0, "wrong": 0, "note": listener.output()}]
    finally:
        if listener:
            listener.kill()
    return {"period": period, "played": played, "heard": heard, "clean": is_clean(played, heard)}


def is_clean(played, heard):
    sound = heard is None or (heard["right"] == played["frames"] and heard["wrong"] == 0)
    return sound and not played["underruns"] and not played["error"]


def smallest_clean(system, periods, seconds, candidates):
    """The smallest clean one of the periods in `candidates` (descending), and what was wrong below.

    Looks in the middle of what is left each time: a larger period is taken to be as clean.
    """
    attempts = []
    low, high = 0, len(candidates)  # all before `low` are clean, those from `high` on are not
    while low < high:
        middle = (low + high) // 2
        attempt = attempt_at(system, candidates[middle], periods, seconds)
        attempts.append(attempt)
        low, high = (middle + 1, high) if attempt["clean"] else (low, middle)
    below = [attempt for attempt in attempts if not attempt["clean"]]
    return {"smallest": candidates[low - 1] if low else None,
            "below": why(below[-1]) if below else "nothing smaller was tried", "attempts": attempts}


def attempt_at(system, period, periods, seconds):
    try:
        return play(system, period, periods, seconds)
    except AssertionError as error:  # the PCM refuses such a small buffer
        return {"period": period, "clean": False, "refused": str(error).splitlines()[-1]}


def why(attempt):
    """What was not clean about an attempt, in few words."""
    if "refused" in attempt:
        return f"{attempt['period']}: refused ({attempt['refused']})"
    played, heard = attempt["played"], attempt["heard"] or {}
    faults = []
    if played["underruns"]:
        faults.append(f"{played['underruns']} underruns")
    if played["error"]:
        faults.append(f"error {played['error']}")
    if heard.get("wrong") or heard.get("right", played["frames"]) != played["frames"]:
        faults.append(f"{heard['right']} of {played['frames']} frames right, {heard['wrong']} wrong")
    return f"{attempt['period']}: " + ", ".join(faults or [json.dumps(attempt)])


def drain_error(system, seconds, repetitions, period=480, periods=4):
    """Milliseconds that drain came late (or early, if negative) after all that was written."""
    late = []
    for _ in range(repetitions):
        played = play(system, period, periods, seconds)["played"]
        silence = period * periods
        late.append(played["running_ns"] / 1e6 - (played["frames"] + silence) / RATE * 1000)
    return {"drain_error": late}


def delay_error(system, seconds, period=480, periods=4):
    """Frames by which the reported delay is above the true one, after each write."""
    [frames] = measure("reported_delay", system.pcm, system.far_end, period, periods, seconds)
    return {"delay_error": frames}
