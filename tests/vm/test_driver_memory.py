# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the process that serves a device can reach: this, and not one byte more."""

import errno
import mmap
import os
import signal
import subprocess

import device
import pytest
from device import PAGE, Backend, Control, Memory, Served, sysfs, wait_until
from machine import load_drivers
from network import Interface, answer, interface, set_up


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net")
    yield
    device.destroy_all()


@pytest.fixture
def started():
    with Control() as control:
        control.create("wire")
        control.answer(control.wait_request(device.START))
        set_up(interface("wire"))
        wait_until(lambda: int(sysfs("wire", "kicks")) > 0)
        yield control


def ring_bytes(queue):
    """The addresses of a split queue's three parts."""
    return [
        range(queue.desc_addr, queue.desc_addr + 16 * queue.size),
        range(queue.driver_addr, queue.driver_addr + 6 + 2 * queue.size),
        range(queue.device_addr, queue.device_addr + 6 + 8 * queue.size),
    ]


def nonzero(memory):
    """Addresses of bytes that are not zero, found page by page."""
    found = []
    for page in range(0, memory.size, PAGE):
        data = memory.read(page, PAGE)
        if data.count(0) != PAGE:
            found += [page + i for i, byte in enumerate(data) if byte]
    return found


def test_every_page_is_the_devices_own(started):
    memory = Memory(started.memory())
    parts = ring_bytes(started.queue(0))
    for _ in range(2):
        outside = [hex(a) for a in nonzero(memory) if not any(a in part for part in parts)]
        assert outside == []
    # The posted buffer is a bounce slot: zeros, not the kernel's memory.
    queue = device.SplitQueue(memory, started.queue(0), -1, -1)
    chain = queue.pop()
    assert chain.writable and not chain.readable
    assert all(memory.read(a, n) == bytes(n) for a, n in chain.writable)
    memory.close()


def test_reading_everything_does_not_disturb_the_device():
    with Control() as control:
        control.create("wire")
        backend = Backend(control, answer(b"steady"))
        wait_until(lambda: backend.served)
        memory = Memory(control.memory())
        with Interface("wire") as wire:
            for _ in range(5):
                nonzero(memory)
                assert wire.ask() == b"steady"
        assert sysfs("wire", "bounce_full") == "0"
        memory.close()
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0)
        backend.stop()


def test_after_the_driver_and_the_device_have_gone_there_is_no_bus_error(started):
    memory = Memory(started.memory())
    where = started.queue(0)
    assert memory.u16(where.driver_addr + 2) > 0
    started.destroy("wire")
    started.answer(started.wait_request(device.STOP))
    wait_until(lambda: started.list()[1] == 0)
    assert nonzero(memory) == [], "the queues have gone, scratch is in their place"
    for page in range(0, memory.size, PAGE):
        memory.write(page, b"x")
    memory.close()


def test_a_stray_write_is_seen_by_nobody_else(started):
    with Control() as other:
        other.create("other")
        other.answer(other.wait_request(device.START))
        mine, its = Memory(started.memory()), Memory(other.memory())
        mine.write(0, b"scratch")
        assert its.read(0, 7) == bytes(7)
        mine.close()
        its.close()


def test_size_and_kind_of_the_file(started):
    fd = started.memory()
    size = started.device().memory_size
    assert size % PAGE == 0
    assert os.fstat(fd).st_size == size
    assert device.ctypes.c_uint32(os.fstat(fd).st_mode).value & 0o170000 == 0o100000
    assert os.lseek(fd, 0, os.SEEK_END) == size
    assert os.lseek(fd, 0, os.SEEK_SET) == 0
    second = started.memory()
    assert os.fstat(fd).st_ino == os.fstat(second).st_ino
    os.close(second)
    with Control() as other:
        other.create("other")
        third = other.memory()
        assert os.fstat(fd).st_ino != os.fstat(third).st_ino
        os.close(third)
    os.close(fd)


def refused(number, call):
    with pytest.raises(OSError) as error:
        call()
    assert error.value.errno == number, os.strerror(error.value.errno)


def test_what_the_file_refuses(started):
    fd = started.memory()
    size = os.fstat(fd).st_size
    rw = mmap.PROT_READ | mmap.PROT_WRITE
    refused(errno.EINVAL, lambda: mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ))
    # 7.2 refuses this before it asks the driver.
    with pytest.raises(OSError):
        mmap.mmap(fd, PAGE, mmap.MAP_SHARED, rw | mmap.PROT_EXEC)
    refused(errno.EPERM, lambda: os.ftruncate(fd, 2 * size))
    refused(errno.EPERM, lambda: os.ftruncate(fd, 0))
    refused(errno.EPERM, lambda: os.fchmod(fd, 0o777))
    refused(errno.EPERM, lambda: os.fchown(fd, 1, 1))
    refused(errno.EINVAL, lambda: os.read(fd, 1))
    refused(errno.EINVAL, lambda: os.write(fd, b"1"))
    refused(errno.ENOTTY, lambda: device.fcntl.ioctl(fd, device.GET_DEVICE, bytes(128)))
    refused(errno.ENXIO, lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
    libc = device.ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = device.ctypes.c_void_p
    for offset, length in ((size, PAGE), (0, size + PAGE), (1 << 60, PAGE)):
        address = libc.mmap(None, device.ctypes.c_size_t(length), 3, 1, fd, device.ctypes.c_long(offset))
        assert address == (1 << 64) - 1, "beyond the end"
    # What is mapped cannot be made executable later.
    address = libc.mmap(None, device.ctypes.c_size_t(PAGE), 3, 1, fd, device.ctypes.c_long(0))
    assert libc.mprotect(device.ctypes.c_void_p(address), PAGE, 5) == -1
    assert libc.munmap(device.ctypes.c_void_p(address), PAGE) == 0  # it would hold the module
    assert os.fstat(fd).st_size == size
    os.close(fd)


def test_a_child_does_not_inherit_the_mapping(started):
    memory = Memory(started.memory())
    memory.read(0, 1)
    child = os.fork()
    if not child:
        os.closerange(0, 3)
        memory.read(0, 1)  # SIGSEGV
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGSEGV
    memory.close()


def test_locking_all_of_it_hurts_nobody(started):
    memory = Memory(started.memory())
    libc = device.ctypes.CDLL(None, use_errno=True)
    assert libc.mlockall(3) == 0
    second = Memory(started.memory())
    libc.munlockall()
    second.close()
    memory.close()
    served = Served(started)
    chain = served.queues[0].wait()
    served.queues[0].write(chain, bytes(64))
    served.queues[0].wait()
    served.close()


def test_a_queue_that_the_next_driver_gets_is_not_the_old_one(started):
    """Queues are freed and made again at the same addresses; an old mapping follows."""
    memory = Memory(started.memory())
    name = f"virtio{started.device().virtio_index}"
    where = started.queue(0)
    slots = sysfs("wire", "bounce_used")
    assert int(slots) > 0
    memory.read(where.desc_addr, PAGE)
    for action in ("unbind", "bind"):
        process = subprocess.Popen(["sh", "-c", f"echo {name} > /sys/bus/virtio/drivers/virtio_net/{action}"])
        request = started.wait_request()
        if request.type == device.STOP:
            # The process goes on reading while the queues go: scratch pages.
            started.answer(request)
            assert process.wait(20) == 0
            assert memory.read(where.driver_addr, 8) == bytes(8)
            assert sysfs("wire", "bounce_used") == "0", "the slots of the old queue were given back"
        else:
            started.answer(request)
            assert process.wait(20) == 0
    set_up(interface("wire"))
    where = started.queue(0)
    wait_until(lambda: memory.u16(where.driver_addr + 2) > 0, what="the new queue in the old mapping")
    assert sysfs("wire", "bounce_used") == slots
    memory.close()
