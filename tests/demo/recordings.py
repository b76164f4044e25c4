# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The recordings of the demo: a piece of music, a voice that gives directions, and one on the phone."""

import pathlib
import subprocess

# Of the package amoebax-data.
MUSIC = pathlib.Path("/usr/share/games/amoebax/music/K.QuitaBackground.ogg")
CREDIT = "Music: \u00c0lex Almarza, Free Art License 1.2. Voices: espeak-ng."
DIRECTIONS = ["In three hundred metres, turn left.", "Then keep right, and join the motorway.",
              "You will arrive in twenty minutes."]
CALL = ["Hello, it is me.", "I am at the station already, and it is raining here.", "See you soon!"]


def make(folder):
    """Writes music.wav (44100 Hz, stereo) and navigation.wav (48000 Hz, mono) into `folder`."""
    music, navigation = folder / "music.wav", folder / "navigation.wav"
    cut_music(music, 44100, 12)
    speak(navigation, "en-gb", DIRECTIONS, "-c", "1", effects=["pad", "1", "0.5"])
    return {"music": music, "navigation": navigation}


def make_scene(folder):
    """Writes music.wav, navigation.wav and phone.wav into `folder`, all with 48000 Hz and in stereo, so
    that what is heard of them can be compared with them sample by sample."""
    files = {name: folder / f"{name}.wav" for name in ("music", "navigation", "phone")}
    cut_music(files["music"], 48000, 24)
    speak(files["navigation"], "en-gb", DIRECTIONS)
    # As a telephone sounds.
    speak(files["phone"], "en-us+f3", CALL, effects=["sinc", "300-3400", "gain", "-n", "-3"])
    return files


def cut_music(path, rate, seconds):
    if not MUSIC.exists():
        raise SystemExit(f"demo: {MUSIC} is missing; make it so: tests/harness/setup demo")
    shape = ["-b", "16", "-r", str(rate), "-c", "2"]
    # Room above it, for what is mixed with it.
    sox(MUSIC, *shape, path, "gain", "-2", "trim", "0", str(seconds), "fade", "0.3", str(seconds), "1")


def speak(path, voice, sentences, *shape, effects=()):
    parts = []
    for number, text in enumerate(sentences):
        parts.append(path.with_name(f"{path.stem}-{number}.wav"))
        run("espeak-ng", "-v", voice, "-s", "150", "-w", parts[-1], text)
    shape = shape or ["-c", "2"]
    sox("--combine", "concatenate", *parts, "-b", "16", "-r", "48000", *shape, path, "gain", "-n", "-3", *effects)
    for part in parts:
        part.unlink()


def sox(*arguments):
    run("sox", "-D", "-V1", *arguments)


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"demo: {command[0]} failed:\n{result.stderr}")
