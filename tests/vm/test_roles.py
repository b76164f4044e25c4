# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Who is heard, and how loud, when cards of several roles play: AGL's policy, on WirePlumber 0.5 and 0.4.

Each card plays a tone of its own, whose level is found in what the real card got.
"""

import wave

import numpy as np
import programs
import pytest
from levels import RATE, WINDOW, levels, phases, tone
from programs import wait_until
from role_scene import CARDS, RoleScene
from wireplumber import VERSIONS

FREQUENCIES = [440, 1000, 1700]  # of the cards in their order
# The level of each card while the last of them plays.
POLICY = {"music": [1, 0, 0], "navigation": [0.2, 1, 0], "phone": [0, 0, 1]}
CLOSE = 0.01

# All roles of the policy, the lowest first, by each of their names once: what they do with lower ones.
DUCK, CORK, MIX = 0.2, 0, 1
ROLES = [("Movie", MIX), ("Speech-Low", CORK), ("Custom-Low", CORK), ("Navigation", DUCK), ("Speech-High", CORK),
         ("Custom-High", CORK), ("Communication", CORK), ("Alert", CORK)]
STREAM = """
[[stream]]
direction = "playback"
host = "pipewire"
role = "{role}"
device = {device}
channels = 2
"""


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    for version in VERSIONS:
        RoleScene(version).install()


@pytest.fixture(params=VERSIONS)
def scene(request):
    scene = RoleScene(request.param)
    yield scene
    if getattr(request.node, "call_failed", True):
        print(scene.report())
        scene.abandon()
    else:
        scene.stop()


def write_tone(path, frequency, seconds):
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(tone(frequency, seconds))
    return path


def wait_heard(scene, frequencies, wanted, player):
    """Waits until the last windows of the recording are as wanted, while the player plays."""

    def is_heard():
        assert player.running(), player.output()
        found = levels(scene.recorder.newest(4 * WINDOW), frequencies)
        return len(found) == 4 and np.abs(found - wanted).max() < CLOSE

    wait_until(is_heard, f"levels {wanted} of {frequencies} Hz", pause=0.1)


def test_a_prompt_ducks_music_and_a_call_silences_both(scene, tmp_path):
    scene.start()
    # The prompt is over before the call is; the music is long enough.
    seconds = {"music": 60, "navigation": 3, "phone": 4}
    players = {}
    for name, frequency in zip(CARDS, FREQUENCIES, strict=True):
        players[name] = scene.play(name, write_tone(tmp_path / f"{name}.wav", frequency, seconds[name]))
        wait_heard(scene, FREQUENCIES, POLICY[name], players[name])
    for name in ("navigation", "phone"):
        assert players[name].wait(20) == 0, players[name].output()
    wait_heard(scene, FREQUENCIES, POLICY["music"], players["music"])

    found, between = phases(levels(scene.recorder.finish().data, FREQUENCIES), POLICY)
    assert [phase.name for phase in found] == ["music", "navigation", "phone", "music"]
    for phase in found:
        np.testing.assert_allclose(phase.levels, POLICY[phase.name], atol=CLOSE, err_msg=phase.name)
    assert between < 0.1  # of the windows, in which one is on its way


@pytest.mark.parametrize("scene", VERSIONS[:1], indirect=True)
def test_the_names_of_asound_conf(scene, tmp_path):
    """Who asks for no card plays music; each card is listed, and has its controls by its name."""
    scene.start()
    listed = programs.run("aplay", "-L").stdout.splitlines()
    assert set(CARDS) <= set(listed)
    player = scene.play("default", write_tone(tmp_path / "tone.wav", FREQUENCIES[0], 60))
    wait_heard(scene, FREQUENCIES, POLICY["music"], player)
    assert scene.cards["music"].alsa_id() in programs.run("amixer", "-D", "default", "info").stdout
    for name in CARDS:
        assert "Master" in programs.run("amixer", "-D", name, "scontrols").stdout


def test_every_role_does_with_the_lower_ones_what_the_table_says(scene, tmp_path):
    scene.start()
    frequencies = [300 + 200 * number for number in range(len(ROLES))]
    streams = [STREAM.format(role=role, device=device) for device, (role, _) in enumerate(ROLES)]
    (tmp_path / "roles.toml").write_text("".join(streams))
    scene.add_card("roles", "--card", tmp_path / "roles.toml")
    for device, (_, action) in enumerate(ROLES):
        path = write_tone(tmp_path / f"{device}.wav", frequencies[device], 60)
        player = scene.play(f"plughw:roles,{device}", path)
        wanted = [action] * device + [1] + [0] * (len(ROLES) - device - 1)
        wait_heard(scene, frequencies, wanted, player)
