# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The demo's first act: each file is compared with what its real card got, sample by sample."""

import json
import wave

from wave_compare import compare


def judge(files, folder):
    """Compares each recording with its file. Returns a dictionary for each card."""
    counters = json.loads((folder / "counters.json").read_text())
    cards = []
    for name, path in files.items():
        with wave.open(str(path)) as file:
            sent = file.readframes(file.getnframes())
            frame_bytes = file.getsampwidth() * file.getnchannels()
        received = path.with_suffix(".recorded").read_bytes()
        result = compare(sent, received, frame_bytes, recorder_frames=counters[name]["recorder_frames"])
        cards.append({"name": name, "file": path, "result": result, **counters[name]})
    return cards


def rows(cards):
    """The table: its head, and a row for each card."""
    yield ("card", "file", "frames in", "frames out", "first difference", "kicks", "interrupts", "xruns")
    for card in cards:
        result = card["result"]
        difference = "none" if result.exact else f"frame {result.first_difference}"
        yield (card["name"], card["file"].name, f"{result.frames_in:,}", f"{result.frames_out:,}", difference,
               f"{card['kicks']:,}", f"{card['calls']:,}", str(card["xruns"]))
