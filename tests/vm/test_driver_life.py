# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Devices come, are taken over, and go; nobody waits without a bound."""

import errno
import gc
import os
import pathlib
import signal
import subprocess
import sys
import time

import device
import pytest
from device import Backend, Control, Served, fill, read_hwrng, sysfs, wait_until
from machine import load_drivers, unload_module
from network import TX, Interface, answer, ask

PARAMETER = pathlib.Path("/sys/module/virtio_loopback/parameters/max_devices")
DRIVERS = "/sys/bus/virtio/drivers"


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net")
    yield
    device.destroy_all()


def gone(control):
    return wait_until(lambda: control.list()[1] == 0, what="the end of the device")


def bind(name, to="bind"):
    """A process that binds the driver to a device, or unbinds it."""
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    path = f"{DRIVERS}/virtio_net/{to}"
    return subprocess.Popen([sys.executable, "-c", code, path, name], stderr=subprocess.DEVNULL)


def virtio_name(control):
    return f"virtio{control.device().virtio_index}"


def test_a_created_device_is_probed_and_served():
    with Control() as control:
        control.create("wire")
        request = control.wait_request(device.START)
        assert request.flags == 0
        assert request.features == device.VIRTIO_F_VERSION_1 | device.VIRTIO_F_ACCESS_PLATFORM
        assert control.device().state == device.STARTING
        served = Served(control)
        control.answer(request)
        assert control.device().state == device.LIVE
        backend = Backend(control, answer(b"loopback"), served)
        assert ask("wire") == b"loopback"
        # "" while the driver's core has not let go of the device.
        wait_until(lambda: sysfs("wire", "driver") == "virtio_net")
        assert sysfs("wire", "state") == "live"
        assert int(sysfs("wire", "kicks")) >= 1
        assert int(sysfs("wire", "bounced_bytes")) >= 64
        control.destroy("wire")
        gone(control)
        assert [r.type for r in backend.requests] == [device.STOP]
        backend.stop()
        assert sysfs_absent("wire")


def sysfs_absent(name):
    return not os.path.exists(f"{device.SYSFS}/{name}")


@pytest.mark.unserved_rng
def test_a_random_number_generator():
    """Another type; its last request is under way when it is removed."""
    load_drivers("virtio_rng")
    with Control() as control:
        control.create("dice", device_id=device.RNG, queue_sizes=[8])
        backend = Backend(control, fill(b"loopback"))
        # The kernel's core may still have bytes of a device before, and starts anywhere.
        wait_until(lambda: read_hwrng(64) in b"loopback" * 10)
        # It may ask while it is being probed.
        wait_until(lambda: sysfs("dice", "driver") == "virtio_rng")
        assert int(sysfs("dice", "bounced_bytes")) >= 64
        control.destroy("dice")
        gone(control)
        backend.stop()


def test_list_tells_what_there_is():
    with Control() as one, Control() as two:
        one.create("first")
        two.create("second", queue_sizes=[16, 16], config=b"\0" * 12)
        devices, count = one.list()
        assert count == 2
        assert [d.name for d in devices] == [b"first", b"second"]
        assert devices[1].config_size == 12
        assert devices[1].attached == 1
        devices, count = one.list(capacity=1)
        assert (len(devices), count) == (1, 2)
        assert one.list(capacity=0) == ([], 2)


def test_a_name_is_taken_until_the_device_has_gone():
    with Control() as one, Control() as two:
        one.create("wire")
        with pytest.raises(OSError) as error:
            two.create("wire")
        assert error.value.errno == errno.EEXIST
        two.destroy("wire")
        one.close()
        gone(two)
        two.create("wire")


def test_a_device_outlives_its_adapter_and_goes_on_with_the_next():
    with Control() as first:
        first.create("wire")
        backend = Backend(first, answer(b"1"))
        assert ask("wire") == b"1"
        served = backend.leave()
    # Nobody is attached; the device process goes on.
    assert sysfs("wire", "restarts") == "0", "the first start is none"
    device_process = Backend(None, answer(b"2"), served)
    assert ask("wire") == b"2"
    assert sysfs("wire", "attached") == "0"
    assert sysfs("wire", "state") == "live"
    device_process.leave()

    with Control() as second:
        second.attach("wire")
        request = second.wait_request(device.START)
        assert request.flags == device.START_RESUME
        assert second.device().state == device.STARTING
        taken = served.queues[0].used
        resumed = Served(second, resume=True)
        assert resumed.queues[0].used == taken, "the used index is in the ring"
        second.answer(request)
        served.close()
        backend = Backend(second, answer(b"3"), resumed)
        assert ask("wire") == b"3"
        assert second.device().state == device.LIVE
        assert sysfs("wire", "restarts") == "1"
        second.destroy("wire")
        gone(second)
        backend.stop()


def test_a_buffer_posted_to_a_dead_process_is_served_by_the_next():
    with Control() as first:
        first.create("wire")
        request = first.wait_request(device.START)
        served = Served(first)
        first.answer(request)
        # What the application sends is there and stays unanswered.
        wire = Interface("wire")
        wire.send()
        served.queues[TX].wait()
        served.close()
    wait_until(lambda: sysfs("wire", "state") == "quiesced", what="the hang-up of the call eventfd")
    with Control() as second:
        second.attach("wire")
        backend = Backend(second, answer(b"late"))
        assert wire.receive() == b"late"
        wire.socket.close()
        assert backend.requests[0].flags == device.START_RESUME
        second.destroy("wire")
        gone(second)
        backend.stop()


def test_a_start_that_nobody_answers_is_given_up():
    with Control() as control:
        begin = time.monotonic()
        control.create("wire")
        assert time.monotonic() - begin < 2, "CREATE waits"
        request = control.wait_request(device.START)
        wait_until(lambda: sysfs("wire", "state") == "quiesced", what="the timeout")
        assert sysfs("wire", "request_timeouts") == "1"
        with pytest.raises(OSError) as error:
            control.answer(request)
        assert error.value.errno == errno.ENOENT
        # The same for the STOP that follows.
        control.destroy("wire")
        control.wait_request(device.STOP)
        gone(control)


def test_a_resumed_start_that_nobody_answers_is_given_up():
    with Control() as first:
        first.create("wire")
        first.answer(first.wait_request(device.START))
    with Control() as second:
        second.attach("wire")
        second.wait_request(device.START)
        wait_until(lambda: second.device().state == device.QUIESCED, what="the timeout")


def test_a_refused_start_leaves_the_device_quiesced():
    with Control() as control:
        control.create("wire")
        control.answer(control.wait_request(device.START), -errno.EIO)
        wait_until(lambda: control.device().state == device.QUIESCED)


def test_without_an_adapter_the_driver_does_not_wait():
    with Control() as control:
        control.create("wire")
    wait_until(lambda: sysfs("wire", "driver") == "virtio_net", timeout=4)
    assert sysfs("wire", "state") == "quiesced"
    with Control() as control:
        control.attach("wire")
        request = control.wait_request(device.START)
        served = Served(control)
        control.answer(request)
        assert control.device().state == device.LIVE
        served.close()


def test_an_adapter_that_closes_releases_the_driver():
    with Control() as control:
        control.create("wire")
        control.wait_request(device.START)
    # Without the answer: at once, not after the timeout.
    wait_until(lambda: sysfs("wire", "driver") == "virtio_net", timeout=4)
    assert sysfs("wire", "request_timeouts") == "0"


def test_only_one_adapter_at_a_time():
    with Control() as one, Control() as two:
        one.create("wire")
        for attempt in (lambda: two.attach("wire"), lambda: one.attach("wire")):
            with pytest.raises(OSError) as error:
                attempt()
            assert error.value.errno == errno.EBUSY
        with pytest.raises(OSError) as error:
            two.attach("nothing")
        assert error.value.errno == errno.ENOENT
        with pytest.raises(OSError) as error:
            two.destroy("nothing")
        assert error.value.errno == errno.ENOENT
        two.create("other")


def test_attaching_binds_a_driver_where_there_is_none():
    with Control() as first:
        first.create("wire")
        first.answer(first.wait_request(device.START))
        wait_until(lambda: sysfs("wire", "driver") == "virtio_net")
        name = virtio_name(first)
    assert bind(name, "unbind").wait(20) == 0
    assert sysfs("wire", "state") == "idle"
    with Control() as second:
        second.attach("wire")
        request = second.wait_request(device.START)
        assert request.flags == 0, "the driver has reset the device"
        second.answer(request)
        wait_until(lambda: sysfs("wire", "driver") == "virtio_net")


def test_stop_comes_before_the_queues_go():
    with Control() as control:
        control.create("wire")
        control.answer(control.wait_request(device.START))
        queue = control.queue(0)
        unbinding = bind(virtio_name(control), "unbind")
        stop = control.wait_request(device.STOP)
        assert control.device().state == device.STOPPING
        assert control.queue(0).desc_addr == queue.desc_addr
        control.answer(stop)
        assert unbinding.wait(20) == 0
        assert control.device().state == device.IDLE
        with pytest.raises(OSError) as error:
            control.queue(0)
        assert error.value.errno == errno.ENXIO


def test_a_waiter_can_be_killed():
    with Control() as control:
        control.create("wire")
        control.answer(control.wait_request(device.START))
        wait_until(lambda: sysfs("wire", "driver") == "virtio_net")
        unbinding = bind(virtio_name(control), "unbind")
        control.answer(control.wait_request(device.STOP))
        assert unbinding.wait(20) == 0
        binding = bind(virtio_name(control))
        control.wait_request(device.START)
        begin = time.monotonic()
        binding.send_signal(signal.SIGKILL)
        binding.wait(20)
        assert time.monotonic() - begin < 3, "the kill had to wait for the timeout"
        assert sysfs("wire", "request_timeouts") == "0"


def test_destroy_while_the_driver_probes():
    with Control() as control:
        control.create("wire")
        control.wait_request(device.START)
        begin = time.monotonic()
        control.destroy("wire")
        assert control.poll(1) & device.select.POLLHUP
        control.answer(control.wait_request(device.STOP))
        gone(control)
        assert time.monotonic() - begin < 4, "the START was waited for"
        for call in (control.device, control.memory, lambda: control.queue(0), lambda: control.set_config(0, b"")):
            with pytest.raises(OSError) as error:
                call()
            assert error.value.errno == errno.ESHUTDOWN
        with pytest.raises(OSError) as error:
            control.read_request()
        assert error.value.errno == errno.ESHUTDOWN


def test_destroy_before_the_driver_probes():
    for _ in range(20):
        with Control() as control:
            control.create("wire")
            control.destroy("wire")
            control.close()
        with Control() as control:
            gone(control)


def test_destroy_while_in_use():
    with Control() as control:
        control.create("wire")
        request = control.wait_request(device.START)
        served = Served(control)
        control.answer(request)
        with Interface("wire") as wire:
            wire.send()
            served.queues[TX].wait()
            control.destroy("wire")
            control.answer(control.wait_request(device.STOP))
            gone(control)
            with pytest.raises(OSError) as error:
                wire.receive()
            assert error.value.errno == errno.ENETDOWN, "the application was not told"
        served.close()


def test_as_many_devices_as_the_module_allows():
    before = PARAMETER.read_text()
    PARAMETER.write_text("2")
    try:
        with Control() as one, Control() as two, Control() as three:
            one.create("one")
            two.create("two")
            with pytest.raises(OSError) as error:
                three.create("three")
            assert error.value.errno == errno.ENOSPC
            one.destroy("one")
            wait_until(lambda: three.list()[1] == 1)
            three.create("three")
    finally:
        PARAMETER.write_text(before)


def rmmod():
    return subprocess.run(["rmmod", "virtio_loopback"], capture_output=True).returncode


def test_the_module_stays_while_it_is_in_use_and_leaves_nothing():
    gc.collect()  # what earlier tests have left open in this process
    control = Control()
    assert rmmod() != 0, "a control file is open"
    control.create("wire")
    control.answer(control.wait_request(device.START))
    memory = control.memory()
    control.close()
    assert rmmod() != 0, "there is a device"
    with Control() as other:
        other.destroy("wire")
        gone(other)
    assert rmmod() != 0, "a memory file is open"
    os.close(memory)
    unload_module()
    assert not os.path.exists(device.PATH)
    assert not os.path.exists(device.SYSFS)
