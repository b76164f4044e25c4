# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Kicks and calls: none is lost, whoever comes late."""

import os
import select
import time

import device
import pytest
from device import RNG, Backend, Control, Memory, Reader, SplitQueue, sysfs, wait_until
from machine import load_drivers
from network import RX, TX, Interface, answer, deliver, interface, set_up


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net", "virtio_rng")
    yield
    device.destroy_all()


def signalled(eventfd, timeout=5):
    return bool(select.select([eventfd], [], [], timeout)[0])


def start(control):
    """A started device with buffers for what it receives, and no eventfd yet."""
    control.create("wire")
    control.answer(control.wait_request(device.START))
    set_up(interface("wire"))
    wait_until(lambda: int(sysfs("wire", "kicks")) > 0, what="the driver's first kick")


def test_a_kick_before_the_eventfd_is_replayed():
    with Control() as control:
        start(control)
        kick = os.eventfd(0)
        control.set_eventfds(0, kick=kick)
        assert signalled(kick)
        assert os.eventfd_read(kick) == 1
        os.close(kick)


def test_a_kick_between_two_eventfds_is_replayed():
    with Control() as control:
        start(control)
        memory = Memory(control.memory())
        kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0)
        control.set_eventfds(TX, kick, call)
        queue = SplitQueue(memory, control.queue(TX), kick, call)
        with Interface("wire") as wire:
            wire.send()
            assert signalled(kick)
            assert os.eventfd_read(kick) == 1
            queue.push(queue.pop(), 0)
            # No eventfd for kicks while the driver sends the next one.
            control.set_eventfds(TX, -1, call)
            before = int(sysfs("wire", "kicks"))
            wire.send()
            wait_until(lambda: int(sysfs("wire", "kicks")) > before, what="the next kick")
        assert not signalled(kick, 0.1)
        control.set_eventfds(TX, kick, call)
        assert signalled(kick)
        for fd in (kick, call):
            os.close(fd)
        memory.close()


def test_a_call_that_nobody_heard_is_made_up_for():
    """A buffer is given back without a call: attaching the eventfd tells the driver."""
    with Control() as control:
        start(control)
        memory = Memory(control.memory())
        kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0)
        control.set_eventfds(RX, kick, -1)
        queue = SplitQueue(memory, control.queue(RX), kick, call)
        with Interface("wire") as wire:
            deliver(queue, b"late", interrupt=False)
            wire.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                wire.receive()
            wire.socket.settimeout(20)
            control.set_eventfds(RX, kick, call)
            assert wire.receive() == b"late"
        for fd in (kick, call):
            os.close(fd)
        memory.close()


def test_the_kernel_consumes_calls():
    with Control() as control:
        start(control)
        call = os.eventfd(0, os.EFD_NONBLOCK)
        control.set_eventfds(0, call=call)
        for _ in range(5):
            os.eventfd_write(call, 3)
        assert int(sysfs("wire", "calls")) == 5
        with pytest.raises(BlockingIOError):
            os.eventfd_read(call)
        os.close(call)


def test_without_its_last_user_the_device_is_quiesced_and_recovers():
    with Control() as control:
        start(control)
        kick, call = os.eventfd(0), os.eventfd(0)
        control.set_eventfds(0, kick, call)
        twin = os.dup(call)
        os.close(call)
        time.sleep(0.1)
        assert control.device().state == device.LIVE
        os.close(twin)
        wait_until(lambda: control.device().state == device.QUIESCED)
        call = os.eventfd(0)
        control.set_eventfds(0, kick, call)
        assert control.device().state == device.LIVE
        for fd in (kick, call):
            os.close(fd)


def test_one_eventfd_for_the_calls_of_two_queues():
    with Control() as control:
        control.create("wire", queue_sizes=[8, 8])
        control.answer(control.wait_request(device.START))
        call = os.eventfd(0)
        control.set_eventfds(0, call=call)
        control.set_eventfds(1, call=call)
        os.eventfd_write(call, 1)
        wait_until(lambda: int(sysfs("wire", "calls")) == 2, what="an interrupt of each")
        os.close(call)


def test_calls_and_kicks_in_a_ring_end():
    """A call eventfd that is another queue's kick: interrupts, but no lockup."""
    with Control() as control:
        control.create("wire", queue_sizes=[8, 8])
        control.answer(control.wait_request(device.START))
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        other = os.eventfd(0, os.EFD_NONBLOCK)
        control.set_eventfds(1, kick=other, call=fd)
        control.set_eventfds(0, kick=fd, call=other)
        for _ in range(100):
            os.eventfd_write(other, 1)
        wait_until(lambda: int(sysfs("wire", "calls")) > 0, what="an interrupt")
        os.close(fd)
        os.close(other)


def test_many_round_trips():
    with Control() as control:
        control.create("wire")
        backend = Backend(control, answer(b"0123456789abcdef"))
        with Interface("wire") as wire:
            before = int(sysfs("wire", "kicks"))
            for _ in range(200):
                assert wire.ask() == b"0123456789abcdef"
        kicks = int(sysfs("wire", "kicks")) - before
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0)
        backend.stop()
        assert kicks >= 200


@pytest.mark.unserved_rng
def test_a_queue_of_two_entries():
    """virtio_net would not send through so small a queue."""
    with Control() as control:
        control.create("wire", device_id=RNG, queue_sizes=[2])
        request = control.wait_request(device.START)
        served = device.Served(control)
        control.answer(request)
        queue = served.queues[0]
        assert queue.size == 2
        Reader()
        for _ in range(300):
            chain = queue.wait()
            queue.write(chain, b"\x55" * chain.room)
        assert served.memory.u16(queue.where.device_addr + 2) == 300
        served.close()
