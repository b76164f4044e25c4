# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""virtio_console spins for its device's answers, but not where nobody is there to give one.

With one CPU there are no consoles: the process that is to answer would never run.
"""

import errno
import struct

import device
import pytest
from device import Backend, Control, sysfs, wait_until
from machine import load_drivers

CONSOLE = 3
F_MULTIPORT = 1 << 1
ONE_PORT = struct.pack("<2HII", 80, 25, 1, 0)  # struct virtio_console_config

DRIVER_SAYS = r"virtio_console virtio\d+: (Error allocating buffers for control queue|probe .*failed with error -5)"
pytestmark = [pytest.mark.two_cpus, pytest.mark.kernel_may_say(DRIVER_SAYS)]


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_console")
    yield
    device.destroy_all()


def create(control, features=F_MULTIPORT):
    """A console; returns the START that its driver waits for."""
    control.create("wire", CONSOLE, [64] * 4, ONE_PORT, features)
    return control.wait_request(device.START)


def give_back(index, queue, chain):
    queue.write(chain, b"")


# What is to be filled stays there.
give_back.leaves = (0, 2)


def wait_for_another():
    """The driver is probed again for the next adapter, once it has given up."""
    wait_until(lambda: sysfs("wire", "state") == "idle", what="the end of the probe")
    with Control() as control:
        control.attach("wire")
        assert control.wait_request(device.START).flags == 0
        control.destroy("wire")


@pytest.mark.parametrize("status", [-errno.EIO, 0])
def test_an_adapter_that_serves_nothing(status):
    with Control() as control:
        control.answer(create(control), status)
        wait_until(lambda: sysfs("wire", "state") == "idle", what="the end of the probe")
    wait_for_another()


@pytest.mark.parametrize("answers", [False, True])
def test_an_adapter_that_goes(answers):
    with Control() as control:
        start = create(control)
        if answers:
            control.answer(start)
    wait_for_another()


def test_an_adapter_that_says_nothing():
    with Control() as control:
        create(control)
        wait_until(lambda: sysfs("wire", "state") == "idle", what="the end of the probe")
        assert sysfs("wire", "request_timeouts") == "2", "START and STOP"
    wait_for_another()


@pytest.mark.parametrize("answers", [False, True])
def test_a_console_that_asks_nothing_waits_for_the_next_adapter(answers):
    with Control() as control:
        start = create(control, features=0)
        if answers:
            control.answer(start)
    wait_until(lambda: sysfs("wire", "driver") == "virtio_console", what="the driver")
    with Control() as control:
        control.attach("wire")
        backend = Backend(control, give_back)
        wait_until(lambda: sysfs("wire", "state") == "live", what="somebody who serves")
        assert [(request.type, request.flags) for request in backend.requests] == [(device.START, device.START_RESUME)]
        backend.leave().close()


@pytest.mark.parametrize("features", [0, F_MULTIPORT])
def test_a_console_whose_process_has_died_begins_anew_with_the_next(features):
    with Control() as control:
        control.create("wire", CONSOLE, [64] * 4, ONE_PORT, features)
        backend = Backend(control, give_back)
        wait_until(lambda: sysfs("wire", "driver") == "virtio_console", what="the driver")
        backend.leave().close()
        wait_until(lambda: sysfs("wire", "state") == "quiesced", what="a word of the eventfds' end")
    with Control() as control:
        control.attach("wire")
        backend = Backend(control, give_back)
        wait_until(lambda: (device.START, 0) in [(r.type, r.flags) for r in backend.requests], what="its beginning")
        wait_until(lambda: sysfs("wire", "state") == "live", what="somebody who serves")
        wait_until(lambda: sysfs("wire", "driver") == "virtio_console", what="the driver")
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0, what="its end")
        backend.stop()


def test_a_process_that_never_answers_keeps_no_console_from_its_end():
    def say_nothing(index, queue, chain):
        """Nothing is given back."""

    with Control() as control:
        control.create("wire", CONSOLE, [64] * 4, ONE_PORT, F_MULTIPORT)
        backend = Backend(control, say_nothing)
        wait_until(lambda: int(sysfs("wire", "kicks")) > 0 and backend.requests, what="a question")
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0, what="its end")
        backend.stop()


def test_a_console_that_is_destroyed_while_it_is_probed():
    with Control() as control:
        create(control)
        control.destroy("wire")
    with Control() as control:
        wait_until(lambda: control.list()[1] == 0, what="its end")
