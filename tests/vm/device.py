# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The driver's two files and the device side of a virtqueue, in plain Python.

This is what the adapter and a device process do together, without either of
them and without vhost-user, so that a test of the driver depends on nothing
but the driver. Layouts are those of include/uapi/linux/virtio_loopback.h.

    with Control() as control:
        control.create("noise", device_id=RNG, queue_sizes=[8])
        request = control.wait_request()              # START
        served = Served(control)                      # queues, memory, eventfds
        control.answer(request)
        chain = served.queues[0].wait()
        served.queues[0].write(chain, b"1234")
"""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
import threading
import time

PATH = "/dev/virtio-loopback"
SYSFS = "/sys/class/virtio-loopback"
PAGE = 4096

NET, RNG, INPUT = 1, 4, 18  # virtio device ids

F_ZERO_COPY = 1
IDLE, STARTING, LIVE, QUIESCED, STOPPING, DYING = range(6)
START, STOP, CONFIG_WRITE = 1, 2, 3
START_RESUME = 1
CONFIG_NOTIFY = 1

VIRTIO_F_VERSION_1 = 1 << 32
VIRTIO_F_ACCESS_PLATFORM = 1 << 33
VIRTIO_RING_F_INDIRECT_DESC = 1 << 28
VIRTIO_RING_F_EVENT_IDX = 1 << 29


class Structure(ctypes.Structure):
    """A ctypes structure that can say what is in it."""

    def __repr__(self):
        fields = ", ".join(f"{f[0]}={getattr(self, f[0])!r}" for f in self._fields_)
        return f"{type(self).__name__}({fields})"


u32, u64, s32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32


class Info(Structure):
    _fields_ = [("abi_version", u32), ("flags", u32), ("features", u64), ("reserved", u64 * 2)]


class Create(Structure):
    _fields_ = [
        ("name", ctypes.c_char * 32),
        ("device_id", u32),
        ("vendor_id", u32),
        ("features", u64),
        ("flags", u32),
        ("queue_count", u32),
        ("config_size", u32),
        ("reserved0", u32),
        ("bounce_size", u64),
        ("zero_copy_size", u64),
        ("config", u64),
        ("queue_sizes", u64),
        ("reserved", u64 * 2),
    ]


class Name(Structure):
    _fields_ = [("name", ctypes.c_char * 32)]


class Device(Structure):
    _fields_ = [
        ("name", ctypes.c_char * 32),
        ("device_id", u32),
        ("vendor_id", u32),
        ("features", u64),
        ("driver_features", u64),
        ("memory_size", u64),
        ("flags", u32),
        ("queue_count", u32),
        ("config_size", u32),
        ("state", u32),
        ("attached", u32),
        ("driver_bound", u32),
        ("virtio_index", u32),
        ("owner", u32),
        ("reserved", u64 * 2),
    ]


class List(Structure):
    _fields_ = [("devices", u64), ("capacity", u32), ("count", u32)]


class Queue(Structure):
    _fields_ = [
        ("index", u32),
        ("size", u32),
        ("desc_addr", u64),
        ("driver_addr", u64),
        ("device_addr", u64),
        ("reserved", u64 * 2),
    ]


class Eventfds(Structure):
    _fields_ = [("index", u32), ("kick", s32), ("call", s32), ("reserved", u32)]


class Request(Structure):
    _fields_ = [("id", u64), ("type", u32), ("flags", u32), ("body", ctypes.c_uint8 * 272)]

    @property
    def features(self):
        """START: what the driver accepted."""
        return struct.unpack_from("=Q", bytes(self.body))[0]

    @property
    def config_write(self):
        """CONFIG_WRITE: the offset and the bytes."""
        offset, length = struct.unpack_from("=II", bytes(self.body))
        return offset, bytes(self.body)[8 : 8 + length]


class Answer(Structure):
    _fields_ = [("id", u64), ("status", s32), ("reserved", u32)]


class Config(Structure):
    _fields_ = [("offset", u32), ("length", u32), ("flags", u32), ("reserved", u32), ("data", u64)]


def _ioc(direction, number, structure=None):
    size = ctypes.sizeof(structure) if structure else 0
    return direction << 30 | size << 16 | 0xB9 << 8 | number


_W, _R = 1, 2
GET_INFO = _ioc(_R, 0x00, Info)
LIST = _ioc(_R | _W, 0x01, List)
CREATE = _ioc(_W, 0x02, Create)
ATTACH = _ioc(_W, 0x03, Name)
DESTROY = _ioc(_W, 0x04, Name)
GET_DEVICE = _ioc(_R, 0x05, Device)
GET_QUEUE = _ioc(_R | _W, 0x06, Queue)
GET_MEMORY = _ioc(0, 0x07)
SET_EVENTFDS = _ioc(_W, 0x08, Eventfds)
ANSWER = _ioc(_W, 0x09, Answer)
SET_CONFIG = _ioc(_W, 0x0A, Config)


class Control:
    """An open control file. Methods raise OSError with the driver's errno."""

    def __init__(self, flags=os.O_NONBLOCK):
        self.fd = os.open(PATH, os.O_RDWR | os.O_CLOEXEC | flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def ioctl(self, number, argument=0):
        return fcntl.ioctl(self.fd, number, argument)

    def info(self):
        info = Info()
        self.ioctl(GET_INFO, info)
        return info

    def list(self, capacity=64):
        """The devices (as many as there is room for), and how many there are."""
        devices = (Device * capacity)()
        argument = List(ctypes.addressof(devices), capacity, 0)
        self.ioctl(LIST, argument)
        return list(devices[: min(capacity, argument.count)]), argument.count

    def create(
        self,
        name,
        device_id=NET,
        queue_sizes=(64, 64),
        config=b"",
        features=0,
        flags=0,
        vendor_id=0x1AF4,
        **fields,
    ):
        """CREATE; any field of struct virtio_loopback_create can be given."""
        sizes = (u32 * max(len(queue_sizes), 1))(*queue_sizes)
        config_buffer = ctypes.create_string_buffer(bytes(config), max(len(config), 1))
        arguments = Create(
            name=name.encode() if isinstance(name, str) else name,
            device_id=device_id,
            vendor_id=vendor_id,
            features=features,
            flags=flags,
            queue_count=len(queue_sizes),
            config_size=len(config),
            config=ctypes.addressof(config_buffer),
            queue_sizes=ctypes.addressof(sizes),
        )
        for field, value in fields.items():
            setattr(arguments, field, value)
        self.ioctl(CREATE, arguments)

    def attach(self, name):
        self.ioctl(ATTACH, Name(name.encode()))

    def destroy(self, name):
        self.ioctl(DESTROY, Name(name.encode()))

    def device(self):
        device = Device()
        self.ioctl(GET_DEVICE, device)
        return device

    def queue(self, index):
        queue = Queue(index=index)
        self.ioctl(GET_QUEUE, queue)
        return queue

    def memory(self):
        """A new descriptor of the memory file."""
        return self.ioctl(GET_MEMORY)

    def set_eventfds(self, index, kick=-1, call=-1):
        self.ioctl(SET_EVENTFDS, Eventfds(index, kick, call, 0))

    def set_config(self, offset, data, flags=0):
        buffer = ctypes.create_string_buffer(bytes(data), max(len(data), 1))
        self.ioctl(SET_CONFIG, Config(offset, len(data), flags, 0, ctypes.addressof(buffer)))

    def answer(self, request, status=0):
        self.ioctl(ANSWER, Answer(request.id, status, 0))

    def read_request(self):
        return Request.from_buffer_copy(os.read(self.fd, ctypes.sizeof(Request)))

    def poll(self, timeout=0.0):
        """The poll events after at most `timeout` seconds; 0: none."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        events = poll.poll(timeout * 1000)
        return events[0][1] if events else 0

    def wait_request(self, kind=None, timeout=20.0):
        """The next request; a test fails if none comes or it is another."""
        end = time.monotonic() + timeout
        while not self.poll(max(end - time.monotonic(), 0)) & select.POLLIN:
            if time.monotonic() > end:
                raise TimeoutError("no request from the driver")
            time.sleep(0.01)  # a dying device hangs up: poll() does not wait
        request = self.read_request()
        assert kind is None or request.type == kind, f"expected {kind}, got {request.type}"
        return request


class Memory:
    """The mapped memory file: addresses of the queues are offsets in it."""

    def __init__(self, fd):
        self.fd = fd
        try:
            self.size = os.lseek(fd, 0, os.SEEK_END)
            self.map = mmap.mmap(fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError:
            os.close(fd)
            raise

    def close(self):
        self.map.close()
        os.close(self.fd)

    def read(self, address, length):
        assert address + length <= self.size
        return self.map[address : address + length]

    def write(self, address, data):
        assert address + len(data) <= self.size
        self.map[address : address + len(data)] = data

    def u16(self, address):
        return struct.unpack_from("<H", self.map, address)[0]

    def set_u16(self, address, value):
        struct.pack_into("<H", self.map, address, value & 0xFFFF)


class Chain:
    """One descriptor chain: `readable` and `writable` are (address, length)."""

    def __init__(self, head):
        self.head = head
        self.readable = []
        self.writable = []

    @property
    def room(self):
        return sum(length for _, length in self.writable)


class SplitQueue:
    """The device side of a split virtqueue (virtio 1.2, section 2.7)."""

    NEXT, WRITE, INDIRECT = 1, 2, 4

    def __init__(self, memory, where, kick, call, resume=False):
        self.memory = memory
        self.where = where
        self.size = where.size
        self.kick = kick
        self.call = call
        self.taken = memory.u16(where.device_addr + 2) if resume else 0
        self.used = self.taken

    def pop(self):
        """The next available chain, or None."""
        if self.memory.u16(self.where.driver_addr + 2) == self.taken:
            return None
        slot = self.where.driver_addr + 4 + 2 * (self.taken % self.size)
        chain = Chain(self.memory.u16(slot))
        self.taken = (self.taken + 1) & 0xFFFF
        self._walk(chain, self.where.desc_addr, chain.head)
        return chain

    def _walk(self, chain, table, index):
        for _ in range(2 * self.size):
            address, length, flags, following = struct.unpack_from(
                "<QIHH", self.memory.map, table + 16 * index
            )
            if flags & self.INDIRECT:
                self._walk(chain, address, 0)
            elif flags & self.WRITE:
                chain.writable.append((address, length))
            else:
                chain.readable.append((address, length))
            if not flags & self.NEXT:
                return
            index = following
        raise AssertionError("the descriptor chain does not end")

    def wait(self, timeout=20.0):
        """The next chain; waits for kicks."""
        end = time.monotonic() + timeout
        while (chain := self.pop()) is None:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.kick], [], [], left)[0]:
                raise TimeoutError("no buffer from the driver")
            os.eventfd_read(self.kick)
        return chain

    def read(self, chain):
        return b"".join(self.memory.read(a, n) for a, n in chain.readable)

    def push(self, chain, length, interrupt=True):
        """Give the chain back with `length` bytes written."""
        slot = self.where.device_addr + 4 + 8 * (self.used % self.size)
        struct.pack_into("<II", self.memory.map, slot, chain.head, length & 0xFFFFFFFF)
        self.used = (self.used + 1) & 0xFFFF
        self.memory.set_u16(self.where.device_addr + 2, self.used)
        if interrupt:
            os.eventfd_write(self.call, 1)

    def write(self, chain, data, interrupt=True):
        """Fill the chain's writable part and give it back."""
        data, length = data[: chain.room], 0
        for address, room in chain.writable:
            part = data[length : length + room]
            self.memory.write(address, part)
            length += len(part)
        self.push(chain, length, interrupt)


class Served:
    """All that a device process has of a started device."""

    def __init__(self, control, resume=False, memory=None):
        self.memory = memory or Memory(control.memory())
        self.queues = []
        try:
            for index in range(control.device().queue_count):
                self._take_queue(control, index, resume)
        except OSError:  # the device may go at any time
            self.close(keep_memory=memory is not None)
            raise

    def _take_queue(self, control, index, resume):
        where = control.queue(index)
        kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0)
        self.queues.append(SplitQueue(self.memory, where, kick, call, resume))
        self.queues[-1].others = self.queues
        control.set_eventfds(index, kick, call)

    def close(self, keep_memory=False):
        for queue in self.queues:
            os.close(queue.kick)
            os.close(queue.call)
        self.queues = []
        if not keep_memory:
            self.memory.close()


def sysfs(name, attribute):
    with open(f"{SYSFS}/{name}/{attribute}", encoding="ascii") as file:
        return file.read().strip()


def wait_until(condition, timeout=20.0, what="the condition"):
    """Poll until `condition()` is true; returns what it returned."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true in {timeout} s")
        time.sleep(0.01)
    return result


def destroy_all(timeout=8.0):
    """Destroy every device and wait until they have gone."""
    if not os.path.exists(PATH):
        return
    with Control() as control:
        for device in control.list()[0]:
            try:
                control.destroy(device.name.decode())
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        wait_until(lambda: control.list()[1] == 0, timeout, "the end of all devices")


class Backend(threading.Thread):
    """Adapter and device process in one thread, until `stop()`, or `leave()`.

    Answers every request, and gives every chain to `handle(index, queue, chain)`,
    which has to give it back, but for those of the queues in `handle.leaves`, if it
    has that: they stay until they are taken. `write_config(offset, data)` hears what the driver
    writes, before the answer. What went wrong is raised by both.
    """

    def __init__(self, control, handle, served=None, write_config=None):
        super().__init__(daemon=True)
        self.control = control
        self.handle = handle
        self.served = served
        self.write_config = write_config
        self.requests = []
        self.error = None
        self._wake = os.eventfd(0)
        self._stopping = False
        self.start()

    def run(self):
        try:
            while not self._stopping:
                self._step()
        except BaseException as error:  # it belongs to the thread that stops us
            self.error = error

    def _step(self):
        queues = self.served.queues if self.served else []
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for queue in queues:
            poll.register(queue.kick, select.POLLIN)
        if self.control:
            poll.register(self.control.fd, select.POLLIN)
        events = dict(poll.poll())
        if self.control and events.get(self.control.fd, 0) & select.POLLIN:
            self._answer()
        elif self.control and events.get(self.control.fd, 0) & select.POLLHUP:
            time.sleep(0.01)
        for index, queue in enumerate(self.served.queues if self.served else []):
            if queue.kick in events:
                os.eventfd_read(queue.kick)
            while index not in getattr(self.handle, "leaves", ()) and (chain := queue.pop()) is not None:
                self.handle(index, queue, chain)

    def _answer(self):
        try:
            request = self.control.read_request()
            self.requests.append(request)
            self._act(request)
            self.control.answer(request)
        except OSError as error:
            # Withdrawn, maybe before it was read: the device is being destroyed. Its STOP is still to come.
            if error.errno not in (errno.ESHUTDOWN, errno.ENOENT, errno.EAGAIN):
                raise

    def _act(self, request):
        if request.type == START:
            self.served = Served(self.control, bool(request.flags & START_RESUME))
        elif request.type == STOP and self.served:
            self.served.close()
            self.served = None
        elif request.type == CONFIG_WRITE and self.write_config:
            self.write_config(*request.config_write)

    def stop(self):
        """End both; the control file stays open."""
        try:
            self.leave()
        finally:
            # The last STOP may not have been heard before.
            if self.served:
                self.served.close()

    def leave(self):
        """End the thread alone; returns what it has served, for another one."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self.join(20)
        assert not self.is_alive(), "the device thread hangs"
        os.close(self._wake)
        if self.error:
            raise self.error
        return self.served


def fill(pattern):
    """A handler for Backend: every buffer is filled with the pattern."""

    def handle(_index, queue, chain):
        queue.write(chain, (pattern * (chain.room // len(pattern) + 1))[: chain.room])

    return handle


def read_hwrng(length, wait=True):
    """Bytes from /dev/hwrng: requests of a driver, answered by a test.

    Waits until there is a driver, unless told not to.
    """
    fd = os.open("/dev/hwrng", os.O_RDONLY)
    end = time.monotonic() + 20
    try:
        data = b""
        while len(data) < length:
            try:
                data += os.read(fd, length - len(data))
            except OSError as error:
                if error.errno != errno.ENODEV or not wait or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        return data
    finally:
        os.close(fd)


class Reader(threading.Thread):
    """Keeps the driver asking, for as long as there is one."""

    def __init__(self):
        super().__init__(daemon=True)
        self.start()

    def run(self):
        try:
            read_hwrng(1)
            while True:
                read_hwrng(1 << 20, wait=False)
        except OSError:
            pass
