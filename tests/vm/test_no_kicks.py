# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""While a stream runs its driver sends no kick: the device wakes on its own clock and looks.

Nor does the device interrupt the driver more than once a period.
"""

import pathlib
import signal
import time

import alsa_tools
import pytest
import sounds
from programs import Program, wait_until
from sounds import Layout

LAYOUT = Layout()
# From the start of a stream on, after which it counts as running steadily, and how long then.
FIRST, PERIODS = 50, 1000
SIZES = [(2400, 4), (480, 16), (480, 2), (192, 4)]


class Stream:
    """A running aplay or arecord, and what its card has counted."""

    def __init__(self, card, program, direction, period):
        self.card, self.program, self.period = card, program, period
        self.status = next(card.folder.glob("virtio*/sound/card*")).name
        self.status = pathlib.Path(f"/proc/asound/{self.status}/pcm0{direction}/sub0/status")

    def periods(self):
        """Periods that have been played or captured."""
        for line in self.status.read_text().splitlines():
            if line.startswith("hw_ptr"):
                return int(line.split(":")[1]) // self.period
        return 0

    def wait_for(self, periods):
        wait_until(
            lambda: self.periods() >= periods or not self.program.running(),
            f"period {periods}",
            periods * self.period / LAYOUT.rate + 20,
        )
        assert self.program.running(), self.program.output()

    def count(self, first=FIRST, periods=PERIODS):
        """Kicks, interrupts and periods of the stream while it ran steadily."""
        self.wait_for(first)
        before = self.card.counter("kicks"), self.card.counter("calls"), self.periods()
        self.wait_for(first + periods)
        after = self.card.counter("kicks"), self.card.counter("calls"), self.periods()
        return [later - sooner for later, sooner in zip(after, before)]


def play(card, period, periods, length, *options):
    """aplay, with noise of `length` periods."""
    player = alsa_tools.Player(card.pcm, sounds.noise(LAYOUT, period * length), period, period * periods)
    return Stream(card, player, "p", period)


def record(card, period, periods, length):
    """arecord, for `length` periods."""
    options = ["--period-size", period, "--buffer-size", period * periods, "--samples", period * length]
    program = Program("arecord", "-v", "-D", card.pcm, *LAYOUT.alsa_options, *options, "/dev/null")
    return Stream(card, program, "c", period)


@pytest.mark.core
@pytest.mark.time_limit(200)
@pytest.mark.parametrize("start", [play, record])
@pytest.mark.parametrize(("period", "periods"), SIZES)
def test_a_running_stream(make_card, record_property, start, period, periods):
    card = make_card("music", "--host", "null")
    stream = start(card, period, periods, FIRST + PERIODS + 50)
    kicks, calls, passed = stream.count()
    record_property("kicks, interrupts, periods", f"{kicks}, {calls}, {passed}")
    assert kicks == 0
    # The counter was read first and the position last.
    assert passed - 2 <= calls <= passed + 2
    assert stream.program.wait(60) == 0, stream.program.output()
    assert not any(word in stream.program.output() for word in ("underrun", "overrun"))


@pytest.mark.core
@pytest.mark.time_limit(200)
@pytest.mark.parametrize("start", [play, record])
def test_a_running_stream_on_a_real_card(music, start):
    stream = start(music, 960, 4, 300)
    kicks, calls, passed = stream.count(periods=200)
    assert kicks == 0
    assert calls <= passed + 2
    assert stream.program.wait(60) == 0, stream.program.output()


@pytest.mark.core
def test_both_directions_at_once(make_card):
    card = make_card("music", "--host", "loop")
    recorder, player = record(card, 480, 4, 500), play(card, 480, 4, 400)
    kicks, calls, passed = player.count(periods=300)
    assert kicks == 0
    assert calls <= 2 * passed + 4
    assert player.program.wait(60) == 0 and recorder.program.wait(60) == 0


@pytest.fixture
def patient(make_card):
    """A player with a buffer of 40 ms that plays on whenever it has been late."""
    card = make_card("music", "--host", "null")
    file = pathlib.Path("/tmp/patient.raw")
    file.write_bytes(sounds.noise(LAYOUT, 480 * 600).data)
    options = ["--period-size", 480, "--buffer-size", 1920, "--stop-delay", 60_000_000]
    return Stream(card, Program("aplay", "-D", card.pcm, *LAYOUT.alsa_options, *options, file), "p", 480)


@pytest.mark.core
def test_a_player_that_is_a_little_late(patient):
    """It comes up to a buffer after its sound has run out: the device has looked for it meanwhile."""
    patient.wait_for(FIRST)
    before = patient.card.counter("kicks")
    for late in (0.005, 0.010, 0.020, 0.025):
        patient.program.send(signal.SIGSTOP)
        start = patient.periods()
        time.sleep(0.040 + late)
        assert patient.periods() - start >= 3
        patient.program.send(signal.SIGCONT)
        patient.wait_for(patient.periods() + 20)
    assert patient.card.counter("kicks") == before
    assert patient.program.wait(60) == 0, patient.program.output()


def switches(pid):
    """How often the audio thread has gone to sleep."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "audio":
            lines = (task / "status").read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    raise AssertionError("there is no audio thread")


@pytest.mark.core
def test_a_player_that_stays_away_costs_nothing(patient):
    """The device gives up looking for it; its return costs one kick."""
    patient.wait_for(FIRST)
    patient.program.send(signal.SIGSTOP)
    time.sleep(0.5)
    kicks, slept = patient.card.counter("kicks"), switches(patient.card.device.pid)
    time.sleep(5)
    assert switches(patient.card.device.pid) - slept == 0
    patient.program.send(signal.SIGCONT)
    patient.wait_for(patient.periods() + 20)
    assert patient.card.counter("kicks") - kicks == 1
    assert patient.program.wait(60) == 0, patient.program.output()
