# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards of examples/cards on AGL's policy, sample by sample: music that waits for a call, the microphone of the
phone, and short buffers that have to wait."""

import wave

import alsa_tools
import holes
import numpy as np
import pytest
import sounds
from programs import Program, wait_until
from role_scene import REAL, RoleScene
from sounds import Layout, Sound
from test_roles import FREQUENCIES, POLICY, scene, wait_heard, write_tone  # noqa: F401
from wireplumber import VERSIONS

CALLS = 2


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    for version in VERSIONS:
        RoleScene(version).install()


def write_wav(path, samples):
    """A sound that is alike in both channels."""
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        file.writeframes(np.repeat(samples, 2).tobytes())
    return path


def is_silent(recorder, frames):
    newest = recorder.newest(frames)
    return len(newest) == frames * recorder.layout.frame_bytes and not any(newest)


def test_music_goes_on_where_a_call_has_stopped_it(scene, tmp_path):  # noqa: F811
    """Every frame of it is heard once and in order; a call is a pause in it."""
    scene.start()
    # Whatever is silent is none of it. The end is kept away from what snd-aloop plays on.
    music = np.random.default_rng(1).integers(-16384, 16384, 10 * 48000).astype("<i2") * 2 + 1
    sound = Sound(scene.recorder.layout, (music.astype("<i4") << 16).tobytes())
    player = scene.play("music", write_wav(tmp_path / "music.wav", np.append(music, np.zeros(9600, "<i2"))))
    for _ in range(CALLS):
        wait_until(lambda: any(scene.recorder.newest(4800)), "the music", 20)
        buffer = REAL.buffer()
        scene.recorder.wait_for(scene.recorder.frames() + 48000)
        call = scene.play("phone", write_wav(tmp_path / "silence.wav", np.zeros(2 * 48000, "<i2")))
        wait_until(lambda: is_silent(scene.recorder, 9600), "the music to wait")
        assert player.running(), player.output()
        assert call.wait(20) == 0, call.output()
    assert player.wait(30) == 0, player.output()
    # Where it has been late, PipeWire's sink leaps forward: the real card plays a little of its buffer again.
    found = holes.pieces(sound, scene.recorder.finish(), buffer)
    pauses = holes.holes(found)
    assert found[0].start == 0 and found[-1].end == sound.frames and not any(pause.missing for pause in pauses), found
    assert sum(pause.length > 48000 for pause in pauses) == CALLS, pauses


def test_the_phones_microphone_records_what_the_real_one_gives(scene, tmp_path):  # noqa: F811
    scene.start()
    spoken = np.random.default_rng(1).integers(-32768, 32768, 48000).astype("<i2")
    recorder = alsa_tools.Recorder("phone", Layout())
    assert scene.server.nodes()["phone-microphone"]["media.role"] == "Capture"
    # The two ends of the microphone's cable have to be alike: one is what PipeWire likes best.
    channel = tmp_path / "channel.raw"
    channel.write_bytes((np.append(spoken, np.zeros(96000)) / 32768).astype("<f4").tobytes())
    kind = ["-t", "raw", "-f", "FLOAT_LE", "-c", "2", "-r", "48000", "--separate-channels"]
    speaker = Program("aplay", "-D", REAL.far_end, *kind, channel, channel)
    assert speaker.wait(20) == 0, speaker.output()
    result = recorder.compare(Sound(Layout(), np.repeat(spoken, 2).tobytes()))
    assert result.exact, str(result)


@pytest.mark.parametrize("scene", VERSIONS[:1], indirect=True)
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
