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
DRIVER_SAYS += r"|virtio-ports vport\d+p0: Error allocating inbufs"
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


IN, OUT, CONTROL_IN, CONTROL_OUT = range(4)


class Answers:
    """Takes what the driver sends, and notes by which queue; gives it back if `gives` it is to."""

    leaves = (IN, CONTROL_IN)  # what is to be filled stays there

    def __init__(self, gives=True):
        self.gives = gives
        self.heard = []

    def __call__(self, index, queue, chain):
        self.heard.append(index)
        if self.gives:
            queue.write(chain, b"")


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


def serve(control, features):
    """Serves the console until its driver has begun; returns who does."""
    answers = Answers()
    backend = Backend(control, answers)
    beginning = (device.START, 0)
    wait_until(lambda: beginning in [(request.type, request.flags) for request in backend.requests], what="its START")
    wait_until(lambda: sysfs("wire", "state") == "live", what="somebody who serves")
    wait_until(lambda: sysfs("wire", "driver") == "virtio_console", what="the driver")
    wait_until(lambda: CONTROL_OUT in answers.heard or not features & F_MULTIPORT, what="its first question")
    return backend


def serve_anew(control, features):
    backend = serve(control, features)
    control.destroy("wire")
    wait_until(lambda: control.list()[1] == 0, what="its end")
    backend.stop()


@pytest.mark.parametrize("answers", [False, True])
def test_a_console_that_asks_nothing_begins_anew_with_the_next_adapter(answers):
    with Control() as control:
        start = create(control, features=0)
        if answers:
            control.answer(start)
    wait_until(lambda: sysfs("wire", "driver") == "virtio_console", what="the driver")
    with Control() as control:
        control.attach("wire")
        serve_anew(control, features=0)


@pytest.mark.parametrize("features", [0, F_MULTIPORT])
@pytest.mark.parametrize("dies_first", [True, False])
def test_a_console_whose_process_has_died_begins_anew_with_the_next(features, dies_first):
    with Control() as control:
        control.create("wire", CONSOLE, [64] * 4, ONE_PORT, features)
        served = serve(control, features).leave()
        if dies_first:
            served.close()
            wait_until(lambda: sysfs("wire", "state") != "live", what="a word of the eventfds' end")
    with Control() as control:
        control.attach("wire")
        if not dies_first:
            served.close()
            # Who takes over its queues before it is seen that it has gone would go on with them.
            wait_until(lambda: sysfs("wire", "state") == "stopping", what="the driver to let go of its queues")
        serve_anew(control, features)


def test_a_process_that_never_answers_keeps_no_console_from_its_end():
    answers = Answers(gives=False)
    with Control() as control:
        control.create("wire", CONSOLE, [64] * 4, ONE_PORT, F_MULTIPORT)
        backend = Backend(control, answers)
        wait_until(lambda: CONTROL_OUT in answers.heard, what="a question")
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0, what="its end")
        backend.stop()


def test_a_console_that_is_destroyed_while_it_is_probed():
    with Control() as control:
        create(control)
        control.destroy("wire")
    with Control() as control:
        wait_until(lambda: control.list()[1] == 0, what="its end")
