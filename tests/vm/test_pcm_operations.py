# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Pause, resume, drop, drain, rewind, forward and recovery: what is heard, sample by sample.

Each case runs on our card and, side by side, straight on the real card behind it: states, delays and
results are those of a hardware card. What is heard is compared on ours alone: where a program that
plays straight on snd-aloop stops, the listener gets more or less than what was played. What the
stock virtio_snd driver makes impossible is named with its function.
"""

import errno

import alsa_tools
import pytest
import sounds
from pcm import CAPTURE, Pcm
from programs import wait_until
from sounds import Layout
from wave_compare import compare

LAYOUT = Layout()
FRAME = LAYOUT.frame_bytes
PERIOD, PERIODS = 480, 8
BUFFER = PERIOD * PERIODS
# Longer than any of these recordings: snd-aloop repeats what is one buffer old where it stops.
RECORDER_BUFFER = 4 * LAYOUT.rate

ACCESS = pytest.mark.parametrize("mmap", [False, True], ids=["write", "mmap"])
pytestmark = pytest.mark.skipif(alsa_tools.PLAYS_ON, reason="this kernel's driver hands the whole buffer over")


@pytest.fixture(params=["ours", "direct"])
def played(request, real):
    """The PCM to play on, and whether it is ours."""
    if request.param == "direct":
        return real.device, False
    card = request.getfixturevalue("make_card")("music", "--host", "alsa", "--playback-device", real.device)
    return card.pcm, True


@pytest.fixture
def recorder(real, played):
    return alsa_tools.Recorder(real.far_end, LAYOUT, buffer=RECORDER_BUFFER)


def noise(periods, seed=1):
    """Sound without a silent frame."""
    return sounds.noise(LAYOUT, periods * PERIOD, seed).data.replace(b"\0", b"\1")


@pytest.fixture
def heard(played, recorder):
    """Ends the recording; returns the stretches of sound in it. None where it is not ours."""

    def end():
        data = recorder.finish().data
        stretches = [bytearray()]
        for at in range(0, len(data), FRAME):
            frame = data[at : at + FRAME]
            if frame != bytes(FRAME):
                stretches[-1] += frame
            elif stretches[-1]:
                stretches.append(bytearray())
        return [bytes(stretch) for stretch in stretches if stretch] if played[1] else None

    return end


def check(heard, expected, stretches=1):
    """All of it is heard, once, in so many stretches at most."""
    if heard is None:
        return
    lengths = [len(stretch) // FRAME for stretch in heard]
    heard = b"".join(heard)
    same = next((at for at, (a, b) in enumerate(zip(heard, expected)) if a != b), min(len(heard), len(expected)))
    report = f"{len(expected) // FRAME} frames played, {lengths} heard, first difference at frame {same // FRAME}"
    assert heard == expected, report
    assert len(lengths) <= stretches, report


def check_dropped(heard, first, second, at_least, stretches=2):
    """Of the first sound there is its start, not its end, and then the second one."""
    if heard is None:
        return
    frames = (sum(map(len, heard)) - len(second)) // FRAME
    assert at_least < frames < len(first) // FRAME, f"{frames} frames of the sound that was dropped"
    check(heard, first[: frames * FRAME] + second, stretches)


def wait_for_delay(pcm, periods):
    """Until there are so few periods left to be played."""
    wait_until(lambda: pcm.avail_delay()[1] <= periods * PERIOD, f"{periods} periods of delay")


@ACCESS
def test_a_pause_loses_and_repeats_nothing(played, recorder, heard, mmap):
    device, _ = played
    sound = noise(40)
    with Pcm(device, PERIOD, BUFFER, mmap=mmap) as pcm:
        pcm.write(sound[: 16 * PERIOD * FRAME])
        pcm.pause(True)
        before = pcm.avail_delay()
        recorder.wait_for(recorder.frames() + 4800)
        assert (pcm.state(), pcm.avail_delay()) == ("paused", before)
        pcm.pause(False)
        assert pcm.state() == "running"
        pcm.write(sound[16 * PERIOD * FRAME :])
        assert pcm.drain() == 0
    check(heard(), sound, stretches=2)


def test_three_pauses_and_a_drop_in_a_pause(played, recorder, heard):
    device, _ = played
    sound, second = noise(24), noise(10, seed=2)
    with Pcm(device, PERIOD, BUFFER) as pcm:
        for part in range(3):
            pcm.write(sound[part * BUFFER * FRAME :][: BUFFER * FRAME])
            if part == 0:
                assert pcm.state() == "running"
            pcm.pause(True)
            recorder.wait_for(recorder.frames() + 2400)
            if part < 2:
                pcm.pause(False)
        pcm.drop()
        assert pcm.state() == "setup"
        pcm.prepare()
        pcm.write(second)
        assert pcm.drain() == 0
    check_dropped(heard(), sound, second, BUFFER, stretches=4)


@ACCESS
def test_a_drop_stops_at_once_and_nothing_of_it_comes_later(played, recorder, heard, mmap):
    device, _ = played
    first, second = noise(PERIODS), noise(20, seed=2)
    with Pcm(device, PERIOD, BUFFER, mmap=mmap) as pcm:
        pcm.write(first)
        if pcm.state() == "prepared":
            pcm.start()
        wait_for_delay(pcm, 5)
        pcm.drop()
        pcm.prepare()
        assert pcm.avail_delay()[1] == 0
        pcm.write(second)
        assert pcm.drain() == 0
    check_dropped(heard(), first, second, 2 * PERIOD)


@ACCESS
def test_a_drain_ends_when_all_has_been_played(played, recorder, heard, mmap):
    device, _ = played
    sounds_played = [noise(periods, seed=periods) for periods in (1, 3, PERIODS, 21)]
    with Pcm(device, PERIOD, BUFFER, mmap=mmap) as pcm:
        for sound in sounds_played:
            pcm.prepare()
            pcm.write(sound)
            assert (pcm.drain(), pcm.state()) == (0, "setup")
            recorder.wait_for(recorder.frames() + 960)
    check(heard(), b"".join(sounds_played), stretches=4)


def test_the_last_part_of_a_period(played, recorder, heard):
    """virtio_snd sends whole periods only: virtsnd_pcm_msg_send() queues a message when its length
    is that of a period. The rest of the last one stays in the driver, where snd_pcm_drain() times
    out on it, and virtsnd_pcm_prepare() leaves it there: only virtsnd_pcm_hw_params() makes new
    messages. Every whole period is heard, and what is opened next is as good as before."""
    device, ours = played
    sound, second = noise(10)[: -100 * FRAME], noise(10, seed=2)
    with Pcm(device, PERIOD, BUFFER) as pcm:
        pcm.write(sound)
        assert pcm.drain() == (-errno.EIO if ours else 0)
    recorder.wait_for(recorder.frames() + 960)
    with Pcm(device, PERIOD, BUFFER) as pcm:
        pcm.write(second)
        assert pcm.drain() == 0
    check(heard(), sound[: 9 * PERIOD * FRAME] + second, stretches=2)


@pytest.mark.parametrize("running", [False, True], ids=["before the start", "running"])
def test_rewind(played, recorder, heard, running):
    """virtsnd_pcm_build_hw() says SNDRV_PCM_INFO_NO_REWINDS: ALSA then goes back by no frame at all,
    and what has been written is heard as it was."""
    device, ours = played
    sound, other = noise(PERIODS), noise(2, seed=2)
    with Pcm(device, PERIOD, BUFFER + PERIOD) as pcm:
        pcm.write(sound)
        if running:
            pcm.start()
        back = pcm.rewind(2 * PERIOD)
        assert back == (0 if ours else 2 * PERIOD)
        pcm.write(other[: back * FRAME])
        if not running:
            pcm.start()
        assert pcm.drain() == 0
    check(heard(), sound)


def test_forward(played, recorder, heard):
    """What is jumped over is played as it lies in the buffer: silence, the first time round."""
    device, _ = played
    first, second = noise(2), noise(3, seed=2)
    with Pcm(device, PERIOD, BUFFER) as pcm:
        pcm.write(first)
        assert pcm.forward(PERIOD) == PERIOD
        pcm.write(second)
        pcm.start()
        assert pcm.drain() == 0
    check(heard(), first + second, stretches=2)


@ACCESS
def test_after_an_underrun_the_next_sound_is_whole(played, recorder, heard, mmap):
    device, _ = played
    first, second = noise(PERIODS), noise(20, seed=2)
    with Pcm(device, PERIOD, BUFFER, mmap=mmap) as pcm:
        pcm.write(first)
        if pcm.state() == "prepared":
            pcm.start()
        wait_until(lambda: pcm.state() == "xrun", "the underrun")
        pcm.prepare()
        pcm.write(second)
        assert pcm.drain() == 0
    check(heard(), first + second, stretches=2)


def test_capture_goes_on_after_an_overrun(music, real):
    """Nobody reads until the driver stops; from then on what is captured is new, and whole."""
    sound = sounds.noise(LAYOUT, 40 * PERIOD).then_silence(10 * PERIOD)
    with Pcm(music.pcm, PERIOD, BUFFER, direction=CAPTURE) as pcm:
        pcm.start()
        wait_until(lambda: pcm.state() == "xrun", "the overrun")
        pcm.prepare()
        pcm.start()
        player = alsa_tools.Player(real.far_end, sound, period=PERIOD, buffer=10 * PERIOD)
        captured = b"".join(pcm.read(PERIOD) for _ in range(120))
        player.finish()
    result = compare(sound.data, captured, FRAME)
    assert result.arrived, str(result)
