# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The device process dies while an application plays and another one captures: neither hears of it, and
what is heard has one short hole."""

import contextlib
import os
import pathlib
import re
import signal
import time

import alsa_tools
import holes
import programs
import pytest
import sounds
from control_group import ControlGroup
from forgetful import ForgetfulCard
from kernel_log import UNANSWERED, KernelLog
from machine import watches_itself
from programs import wait_until
from sounds import Layout
from survivors import RespawnedCard, ServedCard, SupervisedCard, SupervisedRespawnedCard, ask, child_of

# 50 ms, on a machine of 10^9 instructions a second; each run's figures are in junit.xml.
LONGEST = 2400
# What a restart takes longer where the kernel does several times the work: without a guard, it is half of that.
SLOWER = 1200 if watches_itself() else 0
LONGEST_OF_A_GUARD = LONGEST + SLOWER
LONGEST += 2 * SLOWER
# How the log says that a device process has gone.
GONE = {
    signal.SIGKILL: "the device process ended (signal: 9 (SIGKILL)",
    signal.SIGABRT: "the device process ended (signal: 6 (SIGABRT)",
    signal.SIGSTOP: "the device process was stopped by a signal; it has been killed; it is started again",
}
PERIOD, BUFFER = 480, 3840
STREAM = '[[stream]]\ndirection = "playback"\nhost = "null"\n'
COMMANDS = pathlib.Path("/run/virtio-loopback/music.commands")


@pytest.fixture
def supervised(make_card, real):
    return make_card(
        "music",
        "--host",
        "alsa",
        "--playback-device",
        real.device,
        "--capture-device",
        real.device,
        kind=SupervisedCard,
    )


@pytest.fixture
def sound():
    return sounds.noise(Layout(), 4 * 48000)


def play_for_a_second(card, real, sound, buffer=BUFFER):
    """Who records what is heard, and who plays the sound on the card: a second of it has been heard."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(card.pcm, sound, period=PERIOD, buffer=buffer)
    recorder.wait_for(recorder.frames() + 48000)
    return recorder, player


def capture_for_a_second(card, real, sound):
    """Who records what the card captures, and who plays the sound into it: a second of it has been captured."""
    recorder = alsa_tools.Recorder(card.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    player = alsa_tools.Player(real.far_end, sound.then_silence(4800), period=PERIOD, buffer=4800)
    recorder.wait_for(recorder.frames() + 48000)
    return recorder, player


def check_captured(sound, recording, times=1, longest=LONGEST):
    """The whole sound that the far end has played, but for so many short holes."""
    heard = sounds.Sound(sound.layout, recording.data[: (sound.frames + 9600) * sound.layout.frame_bytes])
    # What the real card had captured and nobody has read goes with the process, and so does what the restart
    # takes beyond half of arecord's buffer.
    unread = 2 * PERIOD + SLOWER + max(0, longest - LONGEST)
    return holes.check(holes.pieces(sound, heard, 9600), sound, longest, times, unread)


def check_both_directions(card, real, sound):
    """What it plays, and then what it captures, is whole."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)
    own = alsa_tools.Recorder(card.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    said = sound.then_silence(4800)
    alsa_tools.play(real.far_end, said, period=PERIOD, buffer=BUFFER)
    result = own.compare(said)
    assert result.arrived, str(result)


def check_told(stream, direction, gaps):
    holes.check_told(stream, direction, gaps, slack=3 * PERIOD + SLOWER)


def check_log(card, number):
    """What the adapter says when its device process got a signal."""
    log = card.adapter.output()
    assert GONE[number] in log and "it is started again" in log, log
    assert "goes on where another process has died; restarts so far: 1" in log, log


@pytest.mark.parametrize("number", GONE)
def test_it_dies_while_playing(supervised, real, sound, record_property, number):
    """A device process that was stopped is replaced, too: ALSA gives up after 100 ms without progress."""
    recorder, player = play_for_a_second(supervised, real, sound)
    supervised.end_device(number)
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    record_property("holes", str(holes.holes(found)))
    (gap,) = holes.check(found, sound, LONGEST)
    check_log(supervised, number)
    told = supervised.told()["streams"][0]
    record_property("told", str(told))
    # It goes on from the last period of the process that died; one that was stopped is killed a little later.
    assert told["gaps"] == 1 and abs(told["lost"] - gap.length) <= 3 * PERIOD, (told, gap)
    assert "1 xruns" in programs.run(programs.path_of("virtio-loopback"), "status", supervised.name).stdout


# Of two periods one is left to the application, also where a late process has heard more than the other.
@pytest.mark.parametrize("buffer", [4 * PERIOD, 16 * PERIOD])
def test_it_dies_while_it_plays_from_a_short_or_a_long_buffer(supervised, real, sound, record_property, buffer):
    recorder, player = play_for_a_second(supervised, real, sound, buffer)
    supervised.end_device(signal.SIGKILL)
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    record_property("hole", str(holes.check(found, sound, LONGEST)))


def hw_pointer(card, direction):
    """How many frames the application of a stream has been told of, and when, in seconds."""
    status = next(card.folder.glob(f"virtio*/sound/card*/pcm*{direction}"))
    status = pathlib.Path("/proc/asound", status.parent.name, f"pcm0{direction}/sub0/status").read_text()
    now = time.monotonic()
    return int(re.search(r"^hw_ptr +: (\d+)$", status, re.MULTILINE)[1]), now


@pytest.mark.parametrize("direction", ["p", "c"])
def test_no_period_is_missing_from_the_count(supervised, real, sound, record_property, direction):
    """The clock of a stream goes on while there is no process."""
    start = {"p": play_for_a_second, "c": capture_for_a_second}[direction]
    recorder, player = start(supervised, real, sound)
    before, began = hw_pointer(supervised, direction)
    supervised.end_device(signal.SIGKILL)
    recorder.wait_for(recorder.frames() + 24000)
    after, ended = hw_pointer(supervised, direction)
    counted, passed = after - before, round(48000 * (ended - began))
    record_property("frames counted, passed", f"{counted}, {passed}")
    player.finish()
    recorder.finish()
    # It is told of whole periods. Half of a buffer is kept where a restart takes longer than that.
    assert abs(counted - passed) <= 2 * PERIOD + 2 * SLOWER


def end_it_twice_while_it_plays_and_captures(card, real, sound, number, longest):
    """Returns the holes, which status tells of: those of what was played, and those of what was captured."""
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    own = alsa_tools.Recorder(card.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    # Longer than what is played: it is captured to its end.
    said = sounds.noise(sound.layout, 5 * 48000, seed=2)
    speaker = alsa_tools.Player(real.far_end, said.then_silence(4800), period=PERIOD, buffer=BUFFER)
    player = alsa_tools.Player(card.pcm, sound, period=PERIOD, buffer=BUFFER)
    for _ in range(2):
        recorder.wait_for(recorder.frames() + 48000)
        card.end_device(number)
    player.finish()
    speaker.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    captured = own.finish()
    played_gaps = holes.check(found, sound, longest, times=2)
    captured_gaps = check_captured(said, captured, times=2, longest=longest)
    assert card.adapter.output().count("serving again") == 2, card.adapter.output()
    assert card.counter("restarts") == 2
    streams = ask(COMMANDS)["streams"]
    check_told(streams[0], "playback", played_gaps)
    check_told(streams[1], "capture", captured_gaps)
    return played_gaps, captured_gaps


def test_it_dies_while_playing_and_capturing(supervised, real, sound, record_property):
    gaps = end_it_twice_while_it_plays_and_captures(supervised, real, sound, signal.SIGKILL, LONGEST)
    record_property("holes", str(gaps))
    assert supervised.adapter.output().count(GONE[signal.SIGKILL]) == 2, supervised.adapter.output()


@pytest.mark.parametrize("kind", [RespawnedCard, SupervisedRespawnedCard])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSTOP])
def test_a_guard_replaces_it_while_it_plays_and_captures(make_card, real, sound, record_property, number, kind):
    """Without the start of a program, the hole is half as long."""
    host = ["--host", "alsa", "--playback-device", real.device, "--capture-device", real.device]
    COMMANDS.parent.mkdir(exist_ok=True)
    card = make_card("music", "--command-socket", COMMANDS, *host, kind=kind)
    gaps = end_it_twice_while_it_plays_and_captures(card, real, sound, number, LONGEST_OF_A_GUARD)
    record_property("holes", str(gaps))
    log = (card.device or card.adapter).output()
    end = "SIGKILL" if number == signal.SIGSTOP else number.name
    told = rf"process \d+, which served, was ended by {end}; another one takes its place"
    assert len(re.findall(told, log)) == 2, log


def test_a_guard_below_the_adapter_dies(make_card, real, sound):
    """The adapter starts another one, which listens at the same socket."""
    host = ["--host", "alsa", "--playback-device", real.device]
    card = make_card("music", *host, kind=SupervisedRespawnedCard)
    recorder, player = play_for_a_second(card, real, sound)
    before = card.device_pid()
    os.kill(card.guard_pid(), signal.SIGKILL)
    card.wait_for_another(before)
    player.finish()
    holes.check(holes.pieces(sound, recorder.finish(), recorder.buffer), sound, LONGEST)
    assert "the device process ended (signal: 9 (SIGKILL)); it is started again" in card.adapter.output()


def test_the_kernel_kills_it_for_memory_while_it_plays(supervised, real, sound):
    recorder, player = play_for_a_second(supervised, real, sound)
    supervised.take_memory_of_device()
    player.finish()
    holes.check(holes.pieces(sound, recorder.finish(), recorder.buffer), sound, LONGEST)
    check_log(supervised, signal.SIGKILL)
    assert supervised.told()["streams"][0]["gaps"] == 1


def test_the_kernel_kills_it_for_memory_while_it_captures(supervised, real, sound):
    recorder, player = capture_for_a_second(supervised, real, sound)
    supervised.take_memory_of_device()
    player.finish()
    (gap,) = check_captured(sound, recorder.finish())
    check_log(supervised, signal.SIGKILL)
    check_told(supervised.told()["streams"][1], "capture", [gap])


@pytest.mark.parametrize("number", GONE)
def test_it_dies_while_capturing(supervised, real, sound, record_property, number):
    """arecord hears of nothing; what it has is the sound with one hole, of which status tells."""
    recorder, player = capture_for_a_second(supervised, real, sound)
    supervised.end_device(number)
    player.finish()
    (gap,) = check_captured(sound, recorder.finish())
    record_property("hole", str(gap))
    check_log(supervised, number)
    told = supervised.told()["streams"][1]
    record_property("told", str(told))
    check_told(told, "capture", [gap])
    assert supervised.counter("restarts") == 1
    shown = programs.run(programs.path_of("virtio-loopback"), "status", supervised.name).stdout
    assert re.search(r"^stream +capture, .*\b1 xruns$", shown, re.MULTILINE), shown


END_BOTH = {
    "both are killed": lambda card: card.end_both(),
    "the adapter is killed": lambda card: card.end_adapter(signal.SIGKILL),
    "the adapter is ended": lambda card: card.end_adapter(signal.SIGTERM),
}


@pytest.mark.parametrize("end_both", END_BOTH.values(), ids=END_BOTH)
def test_both_die_at_once(supervised, real, sound, record_property, end_both):
    """The next adapter finds what was in flight by its name."""
    recorder, player = play_for_a_second(supervised, real, sound)
    end_both(supervised)
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    assert found[0].start == 0 and found[-1].end == sound.frames, found
    (gap,) = holes.holes(found)
    record_property("hole", str(gap))
    # Two programs start, one after the other.
    assert gap.length <= 2 * LONGEST and 0 <= gap.missing <= gap.length, gap
    assert "goes on where another process has died" in supervised.adapter.output()


@pytest.mark.parametrize("end_both", END_BOTH.values(), ids=END_BOTH)
def test_both_die_at_once_while_capturing(supervised, real, sound, record_property, end_both):
    recorder, player = capture_for_a_second(supervised, real, sound)
    end_both(supervised)
    player.finish()
    (gap,) = check_captured(sound, recorder.finish(), longest=2 * LONGEST)
    told = supervised.told()["streams"][1]
    record_property("hole", f"{gap}, told: {told['lost']}")
    check_told(told, "capture", [gap])
    assert "goes on where another process has died" in supervised.adapter.output()


def test_a_device_process_that_has_forgotten_everything(supervised, real, sound):
    """As one that keeps no area: the application has an error, and does not hang; the next one plays."""
    player = alsa_tools.Player(supervised.pcm, sound, period=PERIOD, buffer=BUFFER)
    wait_until(lambda: supervised.told()["streams"][0]["state"] == "running", "the sound")
    supervised.end_both(between=pathlib.Path("/run/virtio-loopback/music.inflight").unlink)
    assert player.wait() == 1
    assert "xrun: prepare error: Invalid argument" in player.output()
    assert "serving again" in supervised.adapter.output()
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    alsa_tools.play(supervised.pcm, sound, period=PERIOD, buffer=BUFFER)
    result = recorder.compare(sound)
    assert result.exact, str(result)


def test_a_device_process_that_keeps_nothing(make_card, real, sound):
    """What it had taken is never given back: both applications have an error, and do not hang. Its adapter lives, and
    the next one plays and captures."""
    host = ["--host", "alsa", "--playback-device", real.device, "--capture-device", real.device]
    card = make_card("music", *host, kind=ForgetfulCard)
    own = alsa_tools.Recorder(card.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    recorder, player = play_for_a_second(card, real, sound)
    recorder.stop()
    card.end_device(signal.SIGKILL)
    assert player.wait() == 1, player.output()
    assert own.wait() == 1, own.output()
    assert "serving again" in card.adapter.output()
    check_both_directions(card, real, sound)


@pytest.mark.parametrize("kind", [SupervisedCard, SupervisedRespawnedCard])
def test_the_next_one_does_not_offer_what_the_card_has(make_card, tmp_path, kind):
    """Its card file was changed: the card stays, and is served again as soon as the file is as it was."""
    file = tmp_path / "music.toml"
    file.write_text(STREAM)
    card = make_card("music", "--card", file, kind=kind)
    made = card.id_file()
    file.write_text(f'controls = "none"\n{STREAM}')
    os.kill(child_of(card.adapter.pid), signal.SIGKILL)
    says = "cannot serve music, and starts another device process: the device music exists already, but its config"
    wait_until(lambda: says in card.adapter.output(), says)
    file.write_text(STREAM)
    card.wait_ready()
    assert card.id_file() == made and card.adapter.output().count(says) == 1, card.adapter.output()
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 9600), period=PERIOD, buffer=BUFFER)


def test_it_is_a_service_that_is_started_again(make_card, real, sound):
    """The adapter connects to whoever listens next, as with systemd."""
    host = ["--host", "alsa", "--playback-device", real.device]
    card = make_card("music", *host, kind=ServedCard)
    recorder, player = play_for_a_second(card, real, sound)
    card.end_device(signal.SIGKILL)
    player.finish()
    # Who starts it here takes some time, too.
    holes.check(holes.pieces(sound, recorder.finish(), recorder.buffer), sound, 2 * LONGEST)


@contextlib.contextmanager
def stopped(guard, process):
    """A guard that sees its process stopped would replace it."""
    for pid in (guard, process):
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in (process, guard):
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen(*pids):
    """As `systemctl freeze` does it."""
    group = ControlGroup()
    for pid in pids:
        group.move(pid)
    group.freeze(True)
    try:
        yield
    finally:
        group.freeze(False)
        group.close()


STOPS = {
    "alone": (ServedCard, stopped),
    "with its guard": (RespawnedCard, stopped),
    "frozen with its guard": (RespawnedCard, frozen),
}


@pytest.mark.kernel_may_say(UNANSWERED)
@pytest.mark.parametrize(("kind", "stop"), STOPS.values(), ids=STOPS)
def test_a_service_that_stands_still_is_an_error_for_its_applications_and_serves_again(
    make_card, real, sound, kind, stop
):
    """A service manager takes it for alive, so nobody replaces it: who plays or captures has an error, and does not
    hang."""
    host = ["--host", "alsa", "--playback-device", real.device, "--capture-device", real.device]
    COMMANDS.parent.mkdir(exist_ok=True)
    card = make_card("music", "--command-socket", COMMANDS, *host, kind=kind)
    kernel = KernelLog()
    own = alsa_tools.Recorder(card.pcm, sound.layout, period=PERIOD, buffer=BUFFER)
    recorder, player = play_for_a_second(card, real, sound)
    process = card.device_pid()
    with stop(card.device.pid, process):
        assert player.wait() == 1 and "write error: Input/output error" in player.output(), player.output()
        assert own.wait() == 1 and "read error: Input/output error" in own.output(), own.output()
        assert card.status()["device_process"]["error"] == "no answer within 1000 ms"
        time.sleep(5)
    recorder.stop()
    assert any(re.search(UNANSWERED, text) for _, text in kernel.new_lines())
    kernel.close()
    check_both_directions(card, real, sound)
    assert card.device_pid() == process and card.counter("restarts") == 0
