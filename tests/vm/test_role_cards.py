# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards of examples/cards on AGL's policy, sample by sample: the microphone of the phone, and short buffers
that have to wait for a call."""

import alsa_tools
import pytest
import sounds
from graph_tools import PW_CAT, to_floats, write_wav
from programs import Program, wait_until
from role_scene import RoleScene
from sounds import Layout, Sound
from test_roles import FREQUENCIES, POLICY, scene, wait_heard, write_tone  # noqa: F401
from wireplumber import VERSIONS

SOURCE = "{ node.name = caller, media.class = Audio/Source }"
# WirePlumber 0.5; what 0.4 does with roles is in test_roles.py.
pytestmark = pytest.mark.parametrize("scene", VERSIONS[:1], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    RoleScene(VERSIONS[0]).install()


def test_the_phones_microphone_records_what_the_servers_source_gives(scene, tmp_path):  # noqa: F811
    scene.start()
    noise = sounds.noise(Layout(), 48000)
    # The source starts a little before the card is linked with it, and its last cycle is no whole one.
    sound = Sound(Layout(), bytes(len(noise.data)) + noise.data).then_silence(24000)
    write_wav(tmp_path / "caller.wav", to_floats(sound), sound.layout)
    source = Program(PW_CAT, "--playback", "--target", "0", "--latency", "1024", "-P", SOURCE, tmp_path / "caller.wav")
    wait_until(lambda: "caller" in scene.server.nodes(), "the source", pause=0.2)
    scene.server.run("pw-metadata", "0", "default.configured.audio.source", '{ "name": "caller" }')
    recorder = alsa_tools.Recorder("phone", sound.layout)
    assert scene.server.nodes()["phone-microphone"]["media.role"] == "Capture"
    assert source.wait(30) == 0, source.output()
    result = recorder.compare(noise)
    assert result.exact, str(result)


def test_short_buffers_of_a_drained_card_play_on_during_a_call(scene, tmp_path):  # noqa: F811
    """The kernel tells a blocking program of an I/O error when a period takes longer than 100 ms, or 1.1 times
    the buffer; the time that the policy takes counts."""
    scene.start()
    call = scene.play("phone", write_tone(tmp_path / "phone.wav", FREQUENCIES[2], 60))
    wait_heard(scene, FREQUENCIES, POLICY["phone"], call)
    for period, periods in [(1920, 4), (480, 2)]:
        for seed in range(3):
            sound = sounds.noise(Layout(), period * periods * 12, seed)
            alsa_tools.play("hw:navigation", sound, period=period, buffer=period * periods)
        wait_heard(scene, FREQUENCIES, POLICY["phone"], call)
