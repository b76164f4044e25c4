# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The two recordings of the demo: a piece of music, and a voice that gives directions."""

import pathlib
import subprocess

# Of the package amoebax-data.
MUSIC = pathlib.Path("/usr/share/games/amoebax/music/K.QuitaBackground.ogg")
CREDIT = "Music: \u00c0lex Almarza, Free Art License 1.2. Voice: espeak-ng."
SPOKEN = ["In three hundred metres, turn left.", "Then keep right, and join the motorway.",
          "You will arrive in twenty minutes."]
SECONDS = 12


def make(folder):
    """Writes music.wav (44100 Hz, stereo) and navigation.wav (48000 Hz, mono) into `folder`."""
    music, navigation = folder / "music.wav", folder / "navigation.wav"
    if not MUSIC.exists():
        raise SystemExit(f"demo: {MUSIC} is missing; make it so: tests/harness/setup demo")
    sox(MUSIC, "-b", "16", "-r", "44100", "-c", "2", music, "trim", "0", str(SECONDS), "fade", "0.3", str(SECONDS), "1")
    parts = []
    for number, text in enumerate(SPOKEN):
        parts.append(folder / f"spoken-{number}.wav")
        run("espeak-ng", "-v", "en-gb", "-s", "150", "-w", parts[-1], text)
    sox("--combine", "concatenate", *parts, "-b", "16", "-r", "48000", "-c", "1", navigation,
        "gain", "-n", "-1", "pad", "1", "0.5")
    for part in parts:
        part.unlink()
    return {"music": music, "navigation": navigation}


def sox(*arguments):
    run("sox", "-D", "-V1", *arguments)


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"demo: {command[0]} failed:\n{result.stderr}")
