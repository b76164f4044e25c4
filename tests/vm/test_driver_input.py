# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bad input to each call of the control file gets an errno, and nothing else happens."""

import ctypes
import errno
import fcntl
import os

import device
import pytest
from device import Control, wait_until
from machine import load_drivers


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net")
    yield
    device.destroy_all()


@pytest.fixture
def started():
    """A device whose START has been answered, and its control file."""
    with Control() as control:
        control.create("wire", queue_sizes=[8, 8, 8], config=bytes(16))
        control.answer(control.wait_request(device.START))
        yield control


def refused(number, call):
    with pytest.raises(OSError) as error:
        call()
    assert error.value.errno == number, f"{os.strerror(error.value.errno)}, not {os.strerror(number)}"


BAD_CREATE = [
    (errno.EINVAL, dict(name="")),
    (errno.EINVAL, dict(name="a/b")),
    (errno.EINVAL, dict(name="..")),
    (errno.EINVAL, dict(name="a b")),
    (errno.EINVAL, dict(name="ä")),
    (errno.EINVAL, dict(name="n" * 32)),
    (errno.EINVAL, dict(name="ok", device_id=0)),
    (errno.EINVAL, dict(name="ok", flags=2)),
    (errno.EINVAL, dict(name="ok", flags=0x80000001)),
    (errno.EINVAL, dict(name="ok", queue_sizes=[])),
    (errno.E2BIG, dict(name="ok", queue_sizes=[8] * 65)),
    (errno.E2BIG, dict(name="ok", queue_count=0xFFFFFFFF)),
    (errno.EINVAL, dict(name="ok", queue_sizes=[8, 0])),
    (errno.EINVAL, dict(name="ok", queue_sizes=[24])),
    (errno.E2BIG, dict(name="ok", queue_sizes=[2048])),
    (errno.E2BIG, dict(name="ok", queue_sizes=[1 << 31])),
    (errno.E2BIG, dict(name="ok", config=bytes(4097))),
    (errno.E2BIG, dict(name="ok", config_size=0xFFFFFFFF)),
    (errno.E2BIG, dict(name="ok", bounce_size=1 << 30)),
    (errno.E2BIG, dict(name="ok", bounce_size=(1 << 64) - 1)),
    (errno.EINVAL, dict(name="ok", zero_copy_size=4096)),
    (errno.E2BIG, dict(name="ok", flags=device.F_ZERO_COPY, zero_copy_size=(1 << 64) - 4096)),
    (errno.EINVAL, dict(name="ok", reserved0=1)),
    (errno.EINVAL, dict(name="ok", reserved=(ctypes.c_uint64 * 2)(0, 1))),
    (errno.EFAULT, dict(name="ok", queue_sizes=[8], config_size=16, bad="config")),
    (errno.EFAULT, dict(name="ok", bad="queue_sizes")),
]


@pytest.mark.parametrize("number, fields", BAD_CREATE)
def test_create_refuses(number, fields):
    fields = dict(fields)
    bad = fields.pop("bad", None)
    with Control() as control:
        if bad:
            refused(number, lambda: create_with_bad_pointer(control, bad))
        else:
            refused(number, lambda: control.create(**fields))
        assert control.list() == ([], 0)
        # The file is as before.
        control.create("fine")


def create_with_bad_pointer(control, field):
    sizes = (ctypes.c_uint32 * 1)(8)
    config = ctypes.create_string_buffer(16)
    arguments = device.Create(
        name=b"ok",
        device_id=device.NET,
        queue_count=1,
        config_size=16,
        config=ctypes.addressof(config),
        queue_sizes=ctypes.addressof(sizes),
    )
    setattr(arguments, field, 0x1000)
    control.ioctl(device.CREATE, arguments)


def test_features_that_cannot_be_carried_are_dropped():
    with Control() as control:
        control.create("wire", device_id=0xFFFF, features=(1 << 64) - 1)
        offered = control.device().features
        assert offered == control.info().features
        for bit in (30, 34, 36, 37, 38, 40, 41):
            assert not offered >> bit & 1, f"feature {bit} is offered"
        for bit in (28, 29, 32, 33):
            assert offered >> bit & 1, f"feature {bit} is not offered"


def test_a_call_without_a_device():
    with Control() as control:
        for call in (
            control.device,
            control.memory,
            control.read_request,
            lambda: control.queue(0),
            lambda: control.set_eventfds(0),
            lambda: control.set_config(0, b""),
            lambda: control.answer(device.Request(id=1)),
        ):
            refused(errno.ENODEV, call)
        assert control.poll() == 0


def test_unknown_calls():
    with Control() as control:
        refused(errno.ENOTTY, lambda: control.ioctl(device._ioc(0, 0x7F)))
        refused(errno.ENOTTY, lambda: control.ioctl(0x5401))
        refused(errno.EINVAL, lambda: os.write(control.fd, b"1"))
        refused(errno.ESPIPE, lambda: os.lseek(control.fd, 0, os.SEEK_SET))
        refused(errno.ENODEV, lambda: device.mmap.mmap(control.fd, 4096))


@pytest.mark.parametrize(
    "number",
    [
        device.GET_INFO,
        device.LIST,
        device.CREATE,
        device.ATTACH,
        device.DESTROY,
        device.GET_DEVICE,
        device.GET_QUEUE,
        device.SET_EVENTFDS,
        device.ANSWER,
        device.SET_CONFIG,
    ],
)
def test_bad_addresses(started, number):
    other = Control()
    control = other if number in (device.CREATE, device.ATTACH) else started
    for address in (0, 0x1000, (1 << 47) - 8, (1 << 64) - 8):
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.ioctl(control.fd, ctypes.c_ulong(number), ctypes.c_void_p(address))
        assert (result, ctypes.get_errno()) == (-1, errno.EFAULT)
    other.close()


def test_list_to_a_bad_address(started):
    refused(errno.EFAULT, lambda: started.ioctl(device.LIST, device.List(0x1000, 4, 0)))
    argument = device.List(0, 0xFFFFFFFF, 0)
    refused(errno.EFAULT, lambda: started.ioctl(device.LIST, argument))


def test_names_for_attach_and_destroy(started):
    with Control() as control:
        for name in (b"", b"n" * 32, b"../wire", b"wire\xff"):
            refused(errno.EINVAL, lambda: control.ioctl(device.ATTACH, device.Name(name)))
            refused(errno.EINVAL, lambda: control.ioctl(device.DESTROY, device.Name(name)))


def test_queues_that_are_not_there(started):
    refused(errno.EINVAL, lambda: started.queue(3))
    refused(errno.EINVAL, lambda: started.queue(0xFFFFFFFF))
    assert started.queue(2).size == 0, "this virtio_net has two queues"
    refused(errno.EINVAL, lambda: started.set_eventfds(3))


def test_eventfds_that_are_none(started):
    null = os.open("/dev/null", os.O_RDWR)
    eventfd = os.eventfd(0)
    refused(errno.EBADF, lambda: started.set_eventfds(0, kick=999))
    refused(errno.EBADF, lambda: started.set_eventfds(0, kick=eventfd, call=999))
    refused(errno.EINVAL, lambda: started.set_eventfds(0, kick=null))
    refused(errno.EINVAL, lambda: started.set_eventfds(0, kick=eventfd, call=null))
    refused(errno.EINVAL, lambda: started.set_eventfds(0, kick=eventfd, call=eventfd))
    same = os.dup(eventfd)
    refused(errno.EINVAL, lambda: started.set_eventfds(0, kick=eventfd, call=same))
    refused(errno.EINVAL, lambda: started.ioctl(device.SET_EVENTFDS, device.Eventfds(0, -1, -1, 1)))
    for fd in (null, eventfd, same):
        os.close(fd)


def test_eventfds_before_there_are_queues():
    with Control() as control:
        control.create("unknown", device_id=0xFFFF)
        eventfd = os.eventfd(0)
        refused(errno.ENXIO, lambda: control.set_eventfds(0, kick=eventfd))
        refused(errno.ENXIO, lambda: control.queue(0))
        os.close(eventfd)


def test_answers_to_no_request(started):
    for request in (0, 1, 2, (1 << 64) - 1):
        refused(errno.ENOENT, lambda: started.answer(device.Request(id=request)))


def test_an_answer_to_a_request_that_was_not_read():
    with Control() as control:
        control.create("wire")
        wait_until(lambda: control.poll())
        refused(errno.ENOENT, lambda: control.answer(device.Request(id=1)))
        request = control.wait_request(device.START)
        refused(errno.EINVAL, lambda: control.answer(request, 1))
        refused(errno.EINVAL, lambda: control.answer(request, -4096))
        refused(errno.EINVAL, lambda: control.ioctl(device.ANSWER, device.Answer(request.id, 0, 1)))
        control.answer(request)
        refused(errno.ENOENT, lambda: control.answer(request))


def test_reading_requests():
    with Control() as control:
        control.create("wire")
        wait_until(lambda: control.poll())
        size = ctypes.sizeof(device.Request)
        refused(errno.EINVAL, lambda: os.read(control.fd, size - 1))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.read(control.fd, ctypes.c_void_p(0x1000), size) == -1
        assert ctypes.get_errno() == errno.EFAULT
        # It is still there.
        assert len(os.read(control.fd, 2 * size)) == size
        refused(errno.EAGAIN, control.read_request)


def test_config_outside_of_the_space(started):
    started.set_config(0, bytes(16))
    started.set_config(16, b"")
    for offset, data in ((0, bytes(17)), (16, b"1"), (15, b"12"), (0xFFFFFFFF, b"1"), (0xFFFFFFFF, b"")):
        refused(errno.EINVAL, lambda: started.set_config(offset, data))
    refused(errno.EINVAL, lambda: started.set_config(0, b"1", flags=2))
    refused(errno.EINVAL, lambda: started.ioctl(device.SET_CONFIG, device.Config(0, 1, 0, 1, 0)))
    refused(errno.EINVAL, lambda: started.ioctl(device.SET_CONFIG, device.Config(0, 0xFFFFFFFF, 0, 0, 0)))
    refused(errno.EFAULT, lambda: started.ioctl(device.SET_CONFIG, device.Config(0, 1, 0, 0, 0x1000)))


def test_the_control_file_closes_on_exec():
    with Control() as control:
        assert fcntl.fcntl(control.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        control.create("wire")
        memory = control.memory()
        assert fcntl.fcntl(memory, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        os.close(memory)
