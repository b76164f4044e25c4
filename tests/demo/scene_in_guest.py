# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The demo's second act, inside the virtual machine.

Three cards of examples/cards play on PipeWire with AGL's policy, on one real card. What that gets
is left in the folder of the recordings, with the lengths that it had when something began.
"""

import json
import shutil

from role_scene import LAYOUT, RoleScene

BEFORE_PROMPT, BEFORE_CALL, AFTER_CALL = (int(seconds * LAYOUT.rate) for seconds in (4, 4, 4.5))


def say(text):
    print(f"   {text}", flush=True)


def play(folder, version):
    say(f"PipeWire, WirePlumber {version}, examples/wireplumber/{version}: AGL's roles, and our cards hidden")
    scene = RoleScene(version)
    scene.install()
    scene.start()
    try:
        marks = act(scene, folder)
        recording = scene.recorder.finish(tail=0)
    except AssertionError:
        print(scene.report())
        raise
    (folder / "mix.recorded").write_bytes(recording.data)
    (folder / "marks.json").write_text(json.dumps(marks))
    scene.stop()


def act(scene, folder):
    """Plays the scene; returns the lengths of the recording when its parts began, and when the call ended."""
    marks, recorder = {}, scene.recorder

    def application(card):
        say(f"aplay -D {card} {card}.wav")
        # From memory, as from any disk that is fast enough.
        return scene.play(card, shutil.copy(folder / f"{card}.wav", f"/tmp/{card}.wav"))

    marks["music"] = recorder.frames()
    music = application("music")
    recorder.wait_for(recorder.frames() + BEFORE_PROMPT)
    marks["prompt"] = recorder.frames()
    prompt = application("navigation")
    recorder.wait_for(recorder.frames() + BEFORE_CALL)
    marks["call"] = recorder.frames()
    call = application("phone")
    for player in (prompt, call):
        assert player.wait(60) == 0, player.output()
    marks["call ends"] = recorder.frames()
    say("the call is over")
    recorder.wait_for(recorder.frames() + AFTER_CALL)
    assert music.running(), music.output()
    music.stop()
    return marks
