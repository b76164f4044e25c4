# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How long it takes: to make a card, to open and start it, to ask it something; in the guest."""

import pathlib
import statistics

import programs
from card import CLASS, Card
from measuring_programs import measure, path_of
from programs import Program, wait_until

OPEN_PERIOD, OPEN_PERIODS = 6000, 4  # as a player that nobody asked for anything else
CONTROL_PERIOD, CONTROL_PERIODS = 1024, 4
REST = 2000  # microseconds in which the device goes to sleep
RNG_REQUESTS = 300
TICK = 1_000_000  # nanoseconds: less than any kernel's
STEPS = ["open", "hw_params", "prepare", "trigger", "first_sample"]


def card_usable(system, times):
    """Milliseconds from the start of the adapter until the PCM can be opened."""
    card = system.card
    found = []
    for _ in range(times):
        card.start_device()
        adapter = [programs.path_of("virtio-loopback"), "run", "--name", card.name, "--socket", card.socket]
        found += measure("card_usable", card.name, *adapter)
        card.destroy()
    return {"card_usable": [nanos / 1e6 for nanos in found]}


def opening(system, times, repetitions):
    """Milliseconds of each step on the way to the first sample: the mean of `times`, several times over.

    The very first time is not counted: programs and kernel then meet much of their memory first.
    """
    far = system.far_end or "-"
    measure("open_to_sample", system.pcm, far, OPEN_PERIOD, OPEN_PERIODS, 1)
    steps = STEPS if system.far_end else STEPS[:-1]
    found = {step: [] for step in steps}
    for _ in range(repetitions):
        lines = measure("open_to_sample", system.pcm, far, OPEN_PERIOD, OPEN_PERIODS, times)
        for step in steps:
            found[step].append(statistics.mean(line[step] for line in lines) / 1e6)
    return found


def control_request(system, times, repetitions):
    """Microseconds of one PREPARE: the mean of `times`, several times over; without and with a pause."""
    found = {}
    for name, pause in (("control_request", 0), ("control_request_rested", REST)):
        found[name] = []
        for _ in range(repetitions):
            [nanos] = measure("control_request", system.pcm, CONTROL_PERIOD, CONTROL_PERIODS, times, pause)
            found[name].append(statistics.mean(nanos) / 1000)
    return found


def transport(repetitions):
    """Microseconds of one 64-byte request to a virtio_rng: the transport without any sound."""
    programs.run("modprobe", "virtio_rng")
    card = Card("dice")
    device = Program(path_of("vhost-user-rng"), card.socket)
    wait_until(card.socket.exists, "the rng device's socket")
    adapter = Program(programs.path_of("virtio-loopback"), "run", "--name", card.name, "--device", "rng",
                      "--socket", card.socket)
    wait_until(lambda: card.state() == "live", "the rng device")
    choose_source()
    measure("hwrng_read", RNG_REQUESTS)
    middles = []
    for _ in range(repetitions):
        [nanos] = measure("hwrng_read", RNG_REQUESTS)
        # hw_random sleeps for a tick or two when another process wants the CPU: those reads say nothing.
        prompt = [time for time in nanos if time < TICK]
        middles.append(statistics.median(prompt) / 1000)
    programs.run(programs.path_of("virtio-loopback"), "destroy", card.name)
    wait_until(lambda: not (CLASS / card.name).exists(), "the rng device to be gone")
    for program in (adapter, device):
        program.kill()
    return {"transport": middles}


def choose_source():
    """Lets /dev/hwrng read from the loopback device."""
    folder = pathlib.Path("/sys/class/misc/hw_random")

    def ours():
        names = folder.joinpath("rng_available").read_text().split()
        return next((name for name in names if name.startswith("virtio_rng")), None)

    folder.joinpath("rng_current").write_text(wait_until(ours, "a virtio_rng"))
