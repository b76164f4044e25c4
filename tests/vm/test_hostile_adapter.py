# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An adapter that lies, is silent, or goes at any moment harms nobody else's device.

After each test a card next door plays, bit for bit, and the kernel has not complained.
"""

import collections
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import signal
import struct
import threading

import device
import linux
import pytest
from device import Control, Served, sysfs, wait_until
from machine import load_drivers
from neighbour import Neighbour
from network import interface, set_up
from test_hostile_device import (
    DRIVERS_SAY, LIBC, SOUND, UFFDIO_API, UFFDIO_REGISTER, USERFAULTFD, destroy,
)

pytestmark = pytest.mark.kernel_may_say(DRIVERS_SAY)
UFFDIO_WRITEPROTECT, WP_ASYNC, MODE_WP = 0xC018AA06, 1 << 15, 2


@pytest.fixture(autouse=True)
def neighbour(make_card):
    load_drivers("virtio_net", "virtio_input")
    next_door = Neighbour(make_card)
    yield next_door
    destroy("wire")
    next_door.play()


def refused(number, call):
    with pytest.raises(OSError) as error:
        call()
    assert error.value.errno == number, os.strerror(error.value.errno)


@pytest.mark.parametrize("item", range(4))
def test_a_sound_card_with_more_than_any_has(item):
    """virtio_snd would ask for memory for all of them; the kernel warns of such numbers."""
    counts = [0, 1, 0, 0]
    counts[item] = 0xFFFFFFFF
    with Control() as control:
        refused(errno.E2BIG, lambda: control.create("wire", SOUND, [64] * 4, struct.pack("<4I", *counts)))
        counts[item] = 1025
        refused(errno.E2BIG, lambda: control.create("wire", SOUND, [64] * 4, struct.pack("<4I", *counts)))
        # Nor later, in pieces.
        control.create("wire", SOUND, [64] * 4, struct.pack("<4I", 0, 1, 0, 0))
        refused(errno.E2BIG, lambda: control.set_config(4 * item + 3, b"\xff"))
        refused(errno.E2BIG, lambda: control.set_config(0, struct.pack("<4I", *counts)))


def test_config_and_queues_of_a_wrong_size():
    """A message of virtio_snd has three parts; the kernel warns of one that its queue has no room for."""
    for queues in ([1] * 4, [2] * 4, [64, 64, 64, 2]):
        with Control() as control:
            refused(errno.EINVAL, lambda queues=queues: control.create("wire", SOUND, queues, bytes(16)))
    for config in (b"", b"\x01", bytes(7), bytes(4096)):
        for queues in ([4] * 4, [64], [1024] * 64):
            with Control() as control:
                control.create("wire", SOUND, queues, config, features=(1 << 64) - 1)
                if control.poll(0.2) & select.POLLIN:
                    control.answer(control.read_request(), -errno.EIO)
            destroy("wire")


def test_a_start_that_is_never_answered():
    with Control() as control:
        control.create("wire")
        control.wait_request(device.START)
        wait_until(lambda: sysfs("wire", "state") == "quiesced", what="the driver to give up")
        assert sysfs("wire", "request_timeouts") == "1"


@pytest.mark.parametrize("status", [0, -5, -4095])
def test_a_request_is_answered_once(status):
    with Control() as control:
        control.create("wire")
        request = control.wait_request(device.START)
        control.answer(request, status)
        refused(errno.ENOENT, lambda: control.answer(request))
        refused(errno.ENOENT, lambda: control.answer(device.Request(id=request.id + 1)))
        refused(errno.ENOENT, lambda: control.answer(device.Request(id=(1 << 64) - 1)))


@pytest.mark.parametrize("status", [1, 1 << 30, -4096, -(1 << 31)])
def test_a_status_that_is_no_errno(status):
    with Control() as control:
        control.create("wire")
        request = control.wait_request(device.START)
        refused(errno.EINVAL, lambda: control.answer(request, status))
        control.answer(request)


def read_into_a_mark(control):
    """Reads into a page of the memory that has been marked and never been there; returns the error."""
    memory = device.Memory(control.memory())
    page = ctypes.addressof(ctypes.c_char.from_buffer(memory.map)) + memory.size - mmap.PAGESIZE
    faults = LIBC.syscall(USERFAULTFD, 0)
    fcntl.ioctl(faults, UFFDIO_API, bytearray(struct.pack("<3Q", 0xAA, WP_ASYNC, 0)))
    fcntl.ioctl(faults, UFFDIO_REGISTER, bytearray(struct.pack("<4Q", page, mmap.PAGESIZE, MODE_WP, 0)))
    fcntl.ioctl(faults, UFFDIO_WRITEPROTECT, bytearray(struct.pack("<3Q", page, mmap.PAGESIZE, 1)))
    with open("/dev/zero", "rb") as zero:
        assert LIBC.read(zero.fileno(), ctypes.c_void_p(page), 1) == -1
    return ctypes.get_errno()


@pytest.mark.skipif(linux.VERSION < (6, 7), reason="files like this cannot be marked before")
def test_a_mark_of_userfaultfd_in_the_memory():
    """No page can be mapped there. The kernel, which reads into it, would try for ever, and not listen to SIGKILL."""
    with Control() as control:
        control.create("wire")
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if read_into_a_mark(control) == errno.EFAULT else 2)
            finally:
                os._exit(1)
        ended = wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG), what="the end of who reads")
        assert ended.si_status == 0


STEPS = ["open", "create", "read", "memory", "queues", "eventfds", "answer", "buffer", "destroy"]


# Of the second, the driver has a question, which it waits for.
KINDS = {
    "net": {"device_id": device.NET},
    "sound": {"device_id": SOUND, "queue_sizes": [64] * 4, "config": struct.pack("<4I", 0, 1, 0, 0)},
}


def live_until(last, kind):
    """What an adapter and its device process do, up to a step; the process then ends."""
    control = Control()
    served = None
    for step in STEPS[: STEPS.index(last) + 1]:
        if step == "create":
            control.create("wire", **KINDS[kind])
        elif step == "read":
            request = control.wait_request(device.START)
        elif step == "memory":
            memory = device.Memory(control.memory())
        elif step == "queues":
            memory.read(control.queue(0).desc_addr, 16)
        elif step == "eventfds":
            served = Served(control)
        elif step == "answer":
            control.answer(request)
        elif step == "buffer":
            if kind == "net":
                set_up(interface("wire"))
            served.queues[0].wait()
        elif step == "destroy":
            control.destroy("wire")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
def test_an_adapter_that_dies_after(step, kind):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            live_until(step, kind)
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    if step in STEPS[1:-1]:
        # Somebody else takes it over, and is told where things stand.
        with Control() as control:
            wait_until(lambda: sysfs("wire", "attached") == "0", what="the adapter to be gone")
            control.attach("wire")
            control.wait_request(device.START)


def test_a_flood_of_every_call(neighbour):
    """From several threads, on one file and on several, with nonsense and without."""
    stop = threading.Event()
    done = collections.Counter()

    def flood(seed):
        chance = random.Random(seed)
        while not stop.is_set():
            with contextlib.suppress(OSError), Control() as control:
                for _ in range(50):
                    with contextlib.suppress(OSError):
                        name = chance.choice(list(CALLS))
                        CALLS[name](control)
                        done[name] += 1

    threads = [threading.Thread(target=flood, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        neighbour.play()
        wait_until(lambda: not CALLS.keys() - done.keys(), what="every call to have succeeded")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    destroy("wire", "wire2")
    assert not CALLS.keys() - done.keys(), f"these did nothing: {done}"


CALLS = {
    "create": lambda control: control.create("wire"),
    "create input": lambda control: control.create("wire2", device_id=device.INPUT, config=bytes(136)),
    "attach": lambda control: control.attach(random.choice(["wire", "wire2"])),
    "destroy": lambda control: control.destroy("wire"),
    "list": lambda control: control.list(),
    "info": lambda control: control.info(),
    "device": lambda control: control.device(),
    "queue": lambda control: control.queue(0),
    "memory": lambda control: os.close(control.memory()),
    "config": lambda control: control.set_config(0, bytes(64), device.CONFIG_NOTIFY),
    "eventfds": lambda control: control.set_eventfds(0),
    "answer": lambda control: control.answer(control.read_request()),
}
