# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The system sleeps: whoever plays plays on, and nobody who waits keeps it awake."""

import pathlib
import signal
import struct
import subprocess
import sys
import wave

import alsa_tools
import device
import holes
import pytest
import sounds
import system_sleep
from device import Backend, Control, sysfs, wait_until
from machine import load_drivers
from sounds import Layout
from survivors import ask

pytestmark = pytest.mark.core
SECONDS = 3
INPUT, SOUND = 18, 25
COMMANDS = pathlib.Path("/run/virtio-loopback/music.commands")


@pytest.fixture(autouse=True)
def awake_root(machine):
    with system_sleep.awake_root():
        yield


def played(path):
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


def start_playing(card, seed):
    sound = sounds.noise(Layout(), SECONDS * 48000, seed)
    calls = card.counter("calls")
    player = alsa_tools.Player(card.pcm, sound, period=480, buffer=1920)
    wait_until(lambda: card.counter("calls") > calls + 20, what="the sound to be under way")
    return sound, player


def test_a_playing_card_plays_on(make_card, tmp_path):
    out = tmp_path / "out.wav"
    card = make_card("music", "--host", "file", "--playback-file", out, "--controls", "none")
    sound, player = start_playing(card, 1)
    before = {name: card.attribute(name) for name in ("requests", "request_timeouts", "state", "attached")}
    system_sleep.sleep()
    assert player.running(), "the sound was over before the system slept"
    player.finish()
    assert {name: card.attribute(name) for name in before} == before
    assert card.device.running() and card.adapter.running()
    assert "uspended" not in player.output()
    data = sound.data
    if not alsa_tools.PLAYS_ON:
        # And again, in the same file; nothing of the first sound comes back.
        second, player = start_playing(card, 2)
        player.finish()
        data += second.data
    card.destroy()
    assert alsa_tools.difference(data, played(out), 4) is None


def sleep_while_a_real_card_plays(card, real):
    """Returns the pieces of the sound that the real card has played before and after its sleep."""
    recorder = alsa_tools.Recorder(real.far_end, Layout())
    sound, player = start_playing(card, 7)
    recorder.wait_for(recorder.frames() + 24000)
    system_sleep.sleep()
    assert player.running(), "the sound was over before the system slept"
    player.finish()
    assert "uspended" not in player.output()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    assert "Suspended" in recorder.output(), "the real card did not sleep"
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    return found


def test_a_card_that_plays_on_a_real_one_plays_on(make_card, real):
    """The real card sleeps, too, and is started anew: there is one hole, and nothing twice or in another order."""
    card = make_card("music", "--host", "alsa", "--playback-device", real.device, "--controls", "none")
    assert len(sleep_while_a_real_card_plays(card, real)) == 2
    assert "ERROR" not in card.device.output(), card.device.output()


def test_what_a_real_card_lost_in_its_sleep_is_told(make_card, real):
    COMMANDS.parent.mkdir(exist_ok=True)
    host = ["--host", "alsa", "--playback-device", real.device, "--controls", "none"]
    card = make_card("music", "--command-socket", COMMANDS, *host)
    (gap,) = holes.holes(sleep_while_a_real_card_plays(card, real))
    told = ask(COMMANDS)["streams"][0]
    told = {name: told[name] for name in ("gaps", "lost")}
    # To a period: the recorder at the card's other side slept, too.
    assert told["gaps"] == 1 and told["lost"] + 480 >= gap.missing, (told, gap)


def test_an_idle_card_can_be_used_afterwards(make_card):
    card = make_card("music", "--host", "null", "--controls", "none")
    for seed in range(2):
        system_sleep.sleep()
        assert card.ready()
        alsa_tools.play(card.pcm, sounds.noise(Layout(), 9600, seed), period=480, buffer=1920)
    assert card.counter("request_timeouts") == 0


def test_a_recording_goes_on(make_card, real):
    """The real card sleeps, too: what is said to it afterwards is recorded, whole."""
    card = make_card("music", "--host", "alsa", "--capture-device", real.device, "--controls", "none")
    recorder = alsa_tools.Recorder(card.pcm, Layout(), period=480)
    system_sleep.sleep()
    recorder.wait_for(recorder.frames() + 24000)
    sound = sounds.noise(Layout(), 24000, 8).then_silence(4800)
    alsa_tools.play(real.far_end, sound, period=480, buffer=4800)
    result = recorder.compare(sound)
    assert result.arrived, str(result)


def test_a_card_without_its_adapter_plays_on(make_card):
    card = make_card("music", "--host", "null", "--controls", "none")
    _, player = start_playing(card, 3)
    card.kill_adapter()
    system_sleep.sleep()
    assert player.running(), "the sound was over before the system slept"
    player.finish()
    card.start_adapter()
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 9600, 4), period=480, buffer=1920)


def test_a_device_that_does_not_answer_does_not_keep_the_system_awake(make_card):
    card = make_card("music", "--host", "null", "--controls", "none")
    _, player = start_playing(card, 5)
    card.device.send(signal.SIGSTOP)
    system_sleep.sleep()
    assert player.running(), "an error reached the application"
    card.device.send(signal.SIGCONT)
    # Late, so it may have run dry meanwhile; but it plays to the end.
    assert player.wait(20) == 0, player.output()


UNBIND = "import sys; open('/sys/bus/virtio/drivers/virtio_input/unbind', 'w').write(sys.argv[1])"


def test_a_task_that_waits_for_the_adapter_sleeps_too():
    """It holds its device's lock; to suspend that device would be to wait for it, and it for the adapter."""
    load_drivers("virtio_input")
    try:
        with Control() as control:
            control.create("keys", device_id=INPUT, queue_sizes=[64, 8], config=bytes(136))
            backend = Backend(control, lambda *_: None)
            wait_until(lambda: sysfs("keys", "driver") == "virtio_input")
            served = backend.leave()
            name = f"virtio{control.device().virtio_index}"
            unbinding = subprocess.Popen([sys.executable, "-c", UNBIND, name])
            stop = control.wait_request(device.STOP)
            system_sleep.sleep()
            assert control.device().state == device.STOPPING, "the STOP was given up"
            control.answer(stop)
            served.close()
            assert unbinding.wait(20) == 0
            assert sysfs("keys", "request_timeouts") == "0"
    finally:
        device.destroy_all()


@pytest.mark.kernel_may_say("virtio_snd")
@pytest.mark.parametrize("streams", [0, 1])
def test_a_driver_whose_probe_nobody_answers_does_not_keep_the_system_awake(streams):
    """The way to sleep waits for every probe, and stopped processes answer none. Afterwards it is answered, or
    probed again if it has given up."""
    with Control() as control:
        control.create("wire", device_id=SOUND, queue_sizes=[64] * 4, config=struct.pack("<3I", 0, streams, 0))
        start = control.wait_request(device.START)
        system_sleep.sleep()
        if streams:
            start = control.wait_request(device.START)
        control.answer(start)
        wait_until(lambda: sysfs("wire", "state") == "live", what="the device to be served")
        assert sysfs("wire", "request_timeouts") == str(streams), "a START was given up"
    device.destroy_all()


def test_a_device_made_just_before_is_served_afterwards(make_card):
    """A driver that is being probed when sleep is announced is waited for."""
    card = make_card("music", "--host", "null", "--controls", "none")
    for _ in range(3):
        card.destroy()
        card.start_device()
        card.launch_adapter()
        wait_until(card.folder.exists, what="the device")
        system_sleep.sleep()
        card.wait_ready()
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 9600, 6), period=480, buffer=1920)
