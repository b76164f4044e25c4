# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards of examples/cards on AGL's policy: short buffers that have to wait for a call."""

import alsa_tools
import pytest
import sounds
from role_scene import RoleScene
from sounds import Layout
from test_roles import FREQUENCIES, POLICY, scene, wait_heard, write_tone  # noqa: F401
from wireplumber import VERSIONS

# Of one version of the policy: what the card does while it waits is the same.
pytestmark = pytest.mark.parametrize("scene", VERSIONS[:1], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    RoleScene(VERSIONS[0]).install()


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
