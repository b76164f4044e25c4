# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that lies harms its own device at most: the driver and the other cards are well.

After each test a card next door plays, bit for bit, and the kernel has not complained, but for
what the driver above has to say about its own device.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import pathlib
import re
import signal
import struct
import subprocess
import threading
import time

import device
import pytest
from device import Backend, Control, Memory, Served, sysfs, wait_until
from kernel_log import KernelLog
from machine import load_drivers
from neighbour import Neighbour
from network import answer, ask, interface, set_up
from programs import FOLDER, Program, bind_virtio_snd, path_of, run

SOUND = 25
CONTROLQ, EVENTQ, TXQ, RXQ = 0, 1, 2, 3
RING_INDIRECT_DESC = 1 << 28
SND_OK = 0x8000
JACK_INFO = 24  # bytes
JACK_INFO_CODE, PCM_INFO_CODE, CHMAP_INFO_CODE = 0x1, 0x100, 0x200
CTL_INFO_CODE, CTL_ENUM_ITEMS_CODE, CTL_WRITE_CODE, CTL_TLV_READ_CODE = 0x300, 0x301, 0x303, 0x304
JACK_CONNECTED = 0x1000
BOOLEAN, INTEGER, INTEGER64, ENUMERATED, BYTES, IEC958 = range(6)
# struct snd_ctl_elem_info: numid, type, access, count.
ALSA_TYPES = {BOOLEAN: 1, INTEGER: 2, ENUMERATED: 3, BYTES: 4, IEC958: 5, INTEGER64: 6}
ELEM_INFO, ELEM_INFO_SIZE, ELEM_WRITE, ELEM_WRITE_SIZE = 0xC1105511, 272, 0xC4C85513, 1224
S16, RATE_48000 = 5, 7  # numbers of bits
PLAYBACK, CAPTURE = 0, 1
PERIOD = 480  # frames, of 4 bytes
# ALSA waits for as long as a buffer of four takes: the test may be late on a busy machine.
LONG_PERIOD = 8 * PERIOD
PCM_STATUS = 8  # bytes
RECORDED = FOLDER / "recorded.raw"
REFUSED = r"virtsnd-[tr]x:id \d+ (is not a head|out of range)"
TLV_READ_IOCTL = 0xC008551A  # SNDRV_CTL_IOCTL_TLV_READ
USERFAULTFD, UFFDIO_API, UFFDIO_REGISTER = 323, 0xC018AA3F, 0xC020AA00
# What virtio_net and virtio_snd say of a device that answers nonsense.
DRIVERS_SAY = r"virtio_?(net|snd)|virtio\d+|\beth\d+: "
pytestmark = pytest.mark.kernel_may_say(DRIVERS_SAY)


@pytest.fixture(autouse=True)
def neighbour(make_card):
    load_drivers("virtio_net")
    next_door = Neighbour(make_card)
    yield next_door
    destroy("wire")
    next_door.play()


def destroy(*names):
    with Control() as control:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                control.destroy(name)
        wait_until(lambda: not {d.name.decode() for d in control.list()[0]} & set(names), what="the devices' end")


@pytest.fixture
def started():
    """A network device whose driver has handed over its first buffers."""
    with Control() as control:
        control.create("wire")
        control.wait_request(device.START)
        served = Served(control)
        control.answer(device.Request(id=1))
        set_up(interface("wire"))
        yield control, served
        served.close()


def kernel_writes(served, address, data):
    """Has the kernel write to the mapped memory, as a store of the process would."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        with memoryview(served.memory.map) as view, view[address : address + len(data)] as piece:
            return os.readv(reader, [piece])
    finally:
        os.close(reader)
        os.close(writer)


def test_the_drivers_part_of_a_queue_can_only_be_read(started):
    """Whoever could write descriptors could have virtio_ring go in circles, with interrupts off."""
    _, served = started
    for queue in served.queues:
        for address in (queue.where.desc_addr, queue.where.driver_addr):
            with pytest.raises(OSError) as error:
                kernel_writes(served, address, b"\xff" * 8)
            assert error.value.errno == errno.EFAULT
        idle = queue.memory.read(queue.where.device_addr, 4)
        assert kernel_writes(served, queue.where.device_addr, idle) == 4


def test_a_store_to_the_drivers_part_ends_the_process_that_does_it(started):
    _, served = started
    child = os.fork()
    if child == 0:
        # A child has no mapping of its parent's: it maps the file itself.
        memory = Memory(os.dup(served.memory.fd))
        memory.write(served.queues[0].where.desc_addr, b"\xff" * 4096)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGBUS


def test_all_of_the_bounce_slots_and_used_rings_may_be_scribbled_on(started):
    _, served = started
    memory = served.memory
    start = served.queues[-1].where.device_addr + 2 * device.PAGE
    memory.write(start, os.urandom(memory.size - start))
    served.queues[0].push(device.Chain(0), 64)


def push_raw(queue, head, length, advance=1):
    slot = queue.where.device_addr + 4 + 8 * (queue.used % queue.size)
    struct.pack_into("<II", queue.memory.map, slot, head, length)
    queue.used = (queue.used + advance) & 0xFFFF
    queue.memory.set_u16(queue.where.device_addr + 2, queue.used)
    os.eventfd_write(queue.call, 1)


LIES = {
    "an id outside": lambda queue, chain: push_raw(queue, queue.size, 64),
    "an id far outside": lambda queue, chain: push_raw(queue, 0xFFFFFFFF, 64),
    "an id that is none": lambda queue, chain: push_raw(queue, (chain.head + queue.size // 2) % queue.size, 64),
    "a length of all": lambda queue, chain: push_raw(queue, chain.head, 0xFFFFFFFF),
    "a length above": lambda queue, chain: push_raw(queue, chain.head, chain.room + 1),
    "a length of nothing": lambda queue, chain: push_raw(queue, chain.head, 0),
    "twice": lambda queue, chain: (push_raw(queue, chain.head, 64), push_raw(queue, chain.head, 64)),
    "all at once": lambda queue, chain: push_raw(queue, chain.head, 64, advance=queue.size),
    "more than there are": lambda queue, chain: push_raw(queue, chain.head, 64, advance=0x7FFF),
    "backwards": lambda queue, chain: push_raw(queue, chain.head, 64, advance=-1),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_what_was_used(started, neighbour, lie):
    _, served = started
    queue = served.queues[0]
    chain = wait_until(queue.pop, what="a buffer")
    before = int(sysfs("wire", "calls"))
    neighbour.play(lambda: LIES[lie](queue, chain))
    assert int(sysfs("wire", "calls")) > before, "the driver was not told"
    the_next_one_is_well()


def the_next_one_is_well():
    """The next device of this name is as good as new."""
    destroy("wire")
    with Control() as control:
        control.create("wire")
        backend = Backend(control, answer(b"well"))
        wait_until(lambda: backend.served, what="the next device")
        assert ask("wire") == b"well"
        destroy("wire")
        backend.stop()


def write_without_end(calls):
    """A process that writes to eventfds as fast as it can."""
    child = os.fork()
    if child == 0:
        while True:
            for call in calls:
                os.eventfd_write(call, 1)
    return child


@contextlib.contextmanager
def storm(served):
    """Of calls of all queues. Meanwhile the machine has time for other programs, too."""
    before = int(sysfs("wire", "calls"))
    children = [write_without_end([queue.call for queue in served.queues]) for _ in range(3)]
    try:
        yield
        assert "wire" in run(path_of("virtio-loopback"), "list", timeout=10).stdout
        assert all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert int(sysfs("wire", "calls")) > before + 1000


def test_a_storm_of_calls_takes_no_more_than_its_share(started, neighbour):
    _, served = started
    with storm(served):
        neighbour.play()


def test_interrupts_that_say_there_is_more(started, neighbour):
    """Each call finds the used ring moved: the driver looks, and sees through it."""
    _, served = started
    queue = served.queues[0]
    chains = [wait_until(queue.pop, what="a buffer") for _ in range(queue.size // 2)]

    def give_back_slowly():
        for chain in chains:
            queue.push(chain, 64)

    neighbour.play(give_back_slowly)


@pytest.mark.parametrize("shared", ["call of all queues", "kick of all queues", "kick of one, call of another"])
def test_one_eventfd_for_several(started, shared):
    control, served = started
    rx, tx = served.queues
    if shared == "call of all queues":
        pairs = [(rx.kick, rx.call), (tx.kick, rx.call)]
    elif shared == "kick of all queues":
        pairs = [(rx.kick, rx.call), (rx.kick, tx.call)]
    else:
        pairs = [(rx.kick, tx.kick), (tx.kick, rx.kick)]
    for index, (kick, call) in enumerate(pairs):
        control.set_eventfds(index, kick, call)
    before = int(sysfs("wire", "calls"))
    for _ in range(200):
        os.eventfd_write(rx.kick, 1)
        os.eventfd_write(rx.call, 1)
    wait_until(lambda: int(sysfs("wire", "calls")) > before, what="the interrupts")
    chain = wait_until(rx.pop, what="a buffer")
    rx.push(chain, 64)
    the_next_one_is_well()


def test_one_eventfd_for_two_devices(started):
    """Each device's interrupts are the other's notifications."""
    control, served = started
    rx = served.queues[0]
    with Control() as other:
        other.create("wire2")
        other.wait_request(device.START)
        other.set_eventfds(0, rx.call, rx.kick)
        other.answer(device.Request(id=1))
        set_up(interface("wire2"))
        before = {name: int(sysfs(name, "calls")) for name in ("wire", "wire2")}
        for _ in range(100):
            os.eventfd_write(rx.call, 1)
            os.eventfd_write(rx.kick, 1)
        for name, calls in before.items():
            wait_until(lambda name=name, calls=calls: int(sysfs(name, "calls")) > calls, what=f"interrupts of {name}")
        destroy("wire2")


NO_EVENTFDS = {
    "null": lambda control: os.open("/dev/null", os.O_RDWR),
    "pipe": lambda control: os.pipe()[0],
    "memory file": lambda control: control.memory(),
    "control file": lambda control: os.dup(control.fd),
    "closed": lambda control: 999,
}


@pytest.mark.parametrize("kind", NO_EVENTFDS)
def test_a_file_that_is_no_eventfd(started, kind):
    control, served = started
    fd = NO_EVENTFDS[kind](control)
    good = served.queues[0].kick
    for kick, call in ((fd, -1), (good, fd), (fd, fd)):
        with pytest.raises(OSError) as error:
            control.set_eventfds(0, kick, call)
        assert error.value.errno in (errno.EINVAL, errno.EBADF)
    if kind != "closed":
        os.close(fd)


def lying_sound_card(control, reply, features=0):
    """A sound device, of which `reply(request, room)` says what it answers; None: nothing."""

    def handle(index, queue, chain):
        if index == CONTROLQ and (data := reply(queue.read(chain), chain.room)) is not None:
            queue.write(chain, data)

    handle.leaves = (1, 2, 3)
    config = struct.pack("<III", 1, 2, 1)
    control.create("wire", SOUND, [64] * 4, config, features, device.F_ZERO_COPY)
    return Backend(control, handle)


OK = struct.pack("<I", 0x8000)
REPLIES = {
    "errors": lambda request, room: struct.pack("<I", 0x8003),
    "no status at all": lambda request, room: b"\xff" * room,
    "nothing written": lambda request, room: b"",
    "zeros": lambda request, room: OK + bytes(room),
    "ones": lambda request, room: OK + b"\xff" * room,
    "noise": lambda request, room: OK + os.urandom(room),
    "silence": lambda request, room: None,
}


# What is in no queue any more when the driver has given up is its own, but for tables of indirect descriptors.
@pytest.mark.parametrize("reply, features", [*((reply, 0) for reply in REPLIES), ("silence", RING_INDIRECT_DESC)])
def test_a_sound_device_that_answers_nonsense(reply, features):
    with Control() as control:
        backend = lying_sound_card(control, REPLIES[reply], features)
        wait_until(lambda: backend.requests, what="the driver")
        # It asks, is disappointed, and gives up, or not.
        kinds = backend.requests
        wait_until(lambda: kinds[-1].type == device.STOP or int(sysfs("wire", "kicks")) > 2, what="questions")
        destroy("wire")
        backend.stop()


@pytest.mark.parametrize("events", [0, 20])
@pytest.mark.parametrize("seconds, heard", [(0.5, True), (0.95, False)])
def test_an_answer_that_may_come_when_the_probe_has_given_up(seconds, heard, events):
    """virtio_snd waits for a second. It frees the message that it gives up some time before it deletes its
    queues; an answer in between would be for memory that belongs to others, so late ones are not heard, however
    many events the driver hears of meanwhile."""

    answered = []

    def handle(index, queue, chain):
        if index == CONTROLQ:
            for _ in range(events):
                time.sleep(seconds / events)
                queue.others[EVENTQ].push(queue.others[EVENTQ].wait(), 0)
            if not events:
                time.sleep(seconds)
            queue.write(chain, struct.pack("<I", SND_OK) + bytes(JACK_INFO))
            answered.append(chain)

    handle.leaves = (EVENTQ,)
    with Control() as control:
        control.create("wire", SOUND, [64] * 4, struct.pack("<4I", 1, 0, 0, 0))
        backend = Backend(control, handle)
        folder = pathlib.Path(device.SYSFS, "wire")
        wait_until(lambda: list(folder.glob("virtio*")), what="the virtio device")
        (virtio,) = folder.glob("virtio*")
        wait_until(lambda: answered, what="the answer")
        # Whether it has been heard, nobody says before the second is over.
        time.sleep(1)
        assert (virtio / "driver").exists() == heard
        destroy("wire")
        backend.stop()


def test_an_adapter_that_comes_while_a_probe_is_failing():
    """The driver is still there then, and was not probed again when it had gone."""

    def handle(index, queue, chain):
        queue.write(chain, OK + bytes(JACK_INFO))

    handle.leaves = (EVENTQ, TXQ, RXQ)
    with Control() as first:
        first.create("wire", SOUND, [64] * 4, struct.pack("<4I", 1, 0, 0, 0))
        first.answer(first.wait_request(device.START))
    with Control() as second:
        second.attach("wire")
        # It serves nothing, so that the question has no answer.
        start = second.wait_request(device.START)
        assert start.flags == device.START_RESUME
        second.answer(start)
        second.answer(second.wait_request(device.STOP))
        backend = Backend(second, handle)
        wait_for_card()
        assert [(request.type, request.flags) for request in backend.requests] == [(device.START, 0)]
        destroy("wire")
        backend.stop()


def sound_device(control, answers, leaves=(1, 2, 3), features=0, flags=0, size=64, **counts):
    """A sound device that answers a question by `answers[code](queue, chain)`, or says OK and nothing else."""
    codes = []

    def handle(index, queue, chain):
        (code,) = struct.unpack_from("<I", queue.read(chain))
        codes.append(code)
        if code in answers:
            answers[code](queue, chain)
        else:
            queue.write(chain, OK)

    handle.leaves = leaves
    config = struct.pack("<4I", *(counts.get(name, 0) for name in ("jacks", "streams", "chmaps", "controls")))
    control.create("wire", SOUND, [size] * 4, config, features, flags)
    backend = Backend(control, handle)
    backend.codes = codes
    return backend


def wait_for_card():
    """Its folder, once virtio_snd has been bound and the last of its files is there, and then its node."""
    folder = pathlib.Path(device.SYSFS, "wire")
    wait_until(lambda: list(folder.glob("virtio*/driver")), what="the driver")
    control = wait_until(lambda: next(folder.glob("virtio*/sound/card*/controlC*"), None), what="the card")
    wait_until(pathlib.Path("/dev/snd", control.name).exists, what="its node")
    return control.parent


def test_an_event_that_comes_while_the_card_is_being_made_is_heard_afterwards():
    """Jacks, streams and controls are made one after the other; an event for one that is half made would be the
    kernel's end."""
    before = []

    def handed_over(events):
        return events.memory.u16(events.where.driver_addr + 2)

    def describe_jack(queue, chain):
        events = queue.others[EVENTQ]
        events.write(events.wait(), struct.pack("<II", JACK_CONNECTED, 0))
        time.sleep(0.2)
        before.append(handed_over(events))
        queue.write(chain, OK + bytes(JACK_INFO))

    with Control() as control:
        backend = sound_device(control, {JACK_INFO_CODE: describe_jack}, jacks=1)
        wait_for_card()
        assert before == [64]
        events = backend.served.queues[EVENTQ]
        wait_until(lambda: handed_over(events) == 65, what="the event to be heard")
        destroy("wire")
        backend.stop()


def stream_info(pcm, direction):
    """S16, stereo, 48 kHz."""
    return struct.pack("<2I2Q3B5x", pcm, 0, 1 << S16, 1 << RATE_48000, direction, 2, 2)


@pytest.mark.parametrize("stream, channel_map, has_card",
                         [(7, 7, True), (7, 8, False), (7, 99, False), (7, 0xFFFFFFFF, False), (256, 256, False)])
def test_a_channel_map_of_a_pcm_without_streams(stream, channel_map, has_card):
    """virtio_snd makes a PCM without substreams for it, and follows a NULL pointer."""
    positions = bytes([3, 4])  # front left, front right
    info = struct.pack("<I2B18s", channel_map, PLAYBACK, len(positions), positions)
    answers = {PCM_INFO_CODE: lambda queue, chain: queue.write(chain, OK + stream_info(stream, PLAYBACK)),
               CHMAP_INFO_CODE: lambda queue, chain: queue.write(chain, OK + info)}
    with Control() as control:
        backend = sound_device(control, answers, streams=1, chmaps=1)
        if has_card:
            wait_for_card()
            assert backend.codes == [PCM_INFO_CODE, CHMAP_INFO_CODE]
        else:
            wait_until(lambda: device.STOP in [request.type for request in backend.requests],
                       what="the driver to give up")
        destroy("wire")
        backend.stop()


BOUNDS = {
    "upside down": ((INTEGER64, "<2q", 1, 0), (INTEGER64, 1, 1)),
    "all there are": ((INTEGER64, "<2q", -1 << 63, (1 << 63) - 1), (INTEGER64, -1 << 63, -1)),
    "as they may be": ((INTEGER64, "<2q", -7, 9), (INTEGER64, -7, 9)),
    "Capture Source": ((INTEGER, "<2i", 1 << 30, 5), (BOOLEAN, 0, 0)),
    "two\nlines\x7f": ((INTEGER, "<2i", 0, 5), (INTEGER, 0, 5)),
    "Lautst\N{LATIN SMALL LETTER A WITH DIAERESIS}rke": ((INTEGER, "<2i", 0, 5), (INTEGER, 0, 5)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_and_names_of_a_control(name):
    """The emulation of OSS mixers divides by the difference, and takes "Capture Source" for a list; names are
    printed."""
    (kind, layout, least, most), expected = BOUNDS[name]
    info = struct.pack("<6I44s4x", 0, 1, kind, 1 << 0, 1, 0, name.encode()) + struct.pack(layout, least, most)
    with Control() as control:
        answers = {CTL_INFO_CODE: lambda queue, chain: queue.write(chain, OK + info.ljust(96, b"\0"))}
        backend = sound_device(control, answers, features=1 << 0, controls=1)
        card = wait_for_card()
        found = bytearray(struct.pack("<I", 1).ljust(ELEM_INFO_SIZE, b"\0"))
        with open(f"/dev/snd/controlC{card.name.removeprefix('card')}", "rb") as file:
            fcntl.ioctl(file, ELEM_INFO, found)
        types = {number: kind for kind, number in ALSA_TYPES.items()}
        assert (types[struct.unpack_from("<I", found, 64)[0]], *struct.unpack_from("<2q", found, 80)) == expected
        assert found[16:60].rstrip(b"\0").decode() == re.sub(r"[\n\x7f]", "?", name)
        destroy("wire")
        backend.stop()


def test_a_name_of_a_control_that_does_not_end():
    """The kernel would print it with what comes behind it in its memory."""
    info = struct.pack("<6I44s", 0, 1, INTEGER, 1 << 0, 1, 0, b"N" * 44).ljust(96, b"\xff")
    log = KernelLog()
    with Control() as control:
        answers = {CTL_INFO_CODE: lambda queue, chain: queue.write(chain, OK + info)}
        backend = sound_device(control, answers, features=1 << 0, controls=1)
        wait_for_card()
        assert not [text for _, text in log.new_lines() if "NNNN" in text]
        destroy("wire")
        backend.stop()
    log.close()


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.ioctl.argtypes = ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p


def nonsense_info(number, kind, count, items):
    name = f"Nonsense {number}".encode()
    info = struct.pack("<6I44s4xI", 0, 0, kind, 1 << 0 | 1 << 1, count, 0, name, items)
    return info.ljust(96, b"\xff")


def test_controls_of_more_values_and_names_than_there_may_be():
    """virtio_snd copies as many values as the device says into messages that have room for 512 bytes, looks its
    types up in a table of six, and allocates memory for as many names."""
    infos = [(BYTES, 1096, 0), (INTEGER, 0xFFFFFFFF, 0), (INTEGER64, 65, 0), (IEC958, 0, 0), (6, 129, 0),
             (0xFFFFFFFF, 0xFFFFFFFF, 0), (ENUMERATED, 1000, 0xFFFFFFFF), (ENUMERATED, 1, 0), (ENUMERATED, 1, 700)]
    bounds = [(BYTES, 512), (INTEGER, 128), (INTEGER64, 64), (IEC958, 0), (BOOLEAN, 128), (BOOLEAN, 128),
              (ENUMERATED, 128), (ENUMERATED, 1), (ENUMERATED, 1)]
    names, written = [], []

    def describe(queue, chain):
        queue.write(chain, OK + b"".join(nonsense_info(number, *info) for number, info in enumerate(infos)))

    def enumerate_names(queue, chain):
        names.append((chain.room - len(OK)) // 64)
        queue.write(chain, OK + b"name".ljust(64, b"\0") * names[-1])

    def write(queue, chain):
        written.append(queue.read(chain))
        queue.write(chain, OK)

    with Control() as control:
        answers = {CTL_INFO_CODE: describe, CTL_ENUM_ITEMS_CODE: enumerate_names, CTL_WRITE_CODE: write}
        backend = sound_device(control, answers, features=1 << 0, controls=len(infos))
        card = wait_for_card()
        # 1024 names in all, and one at least.
        assert names == [1024, 1, 1]
        # What comes behind a message of that size in memory.
        behind = [bytearray(b"\x55" * 1024) for _ in range(1000)]
        with open(f"/dev/snd/controlC{card.name.removeprefix('card')}", "rb") as file:
            for number, (kind, count) in enumerate(bounds):
                found = bytearray(struct.pack("<I", number + 1).ljust(ELEM_INFO_SIZE, b"\0"))
                fcntl.ioctl(file, ELEM_INFO, found)
                assert struct.unpack_from("<I4xI", found, 64) == (ALSA_TYPES[kind], count), number
                values = b"\xaa" if kind == BYTES else b"\0"
                value = bytearray(struct.pack("<I", number + 1).ljust(72, b"\0").ljust(ELEM_WRITE_SIZE, values))
                # Not Python's own: with as much as that, it lets no other thread run.
                assert LIBC.ioctl(file.fileno(), ELEM_WRITE, ctypes.byref(ctypes.c_char.from_buffer(value))) == 0
        assert len(written) == len(bounds) and {len(request) for request in written} == {8 + 512}
        assert all(block == b"\x55" * 1024 for block in behind)
        destroy("wire")
        backend.stop()


def control_info(room):
    """A volume with a scale: READ, WRITE, TLV_READ."""
    info = struct.pack("<6I44s4x3I", 0, 1, 1, 1 << 0 | 1 << 1 | 1 << 4, 1, 0, b"Master Playback Volume", 0, 100, 1)
    return OK + info.ljust(room - len(OK), b"\0")


SCALE = struct.pack("<4I", 1, 8, 0xFFFFF000, 50)  # SNDRV_CTL_TLVT_DB_SCALE


def read_scale(card):
    """SNDRV_CTL_IOCTL_TLV_READ of the first control."""
    tlv = bytearray(struct.pack("<2I", 1, len(SCALE)) + bytes(len(SCALE)))
    with open(f"/dev/snd/controlC{card.name.removeprefix('card')}", "rb") as file:
        fcntl.ioctl(file, TLV_READ_IOCTL, tlv)
    return bytes(tlv[8:])


@pytest.mark.parametrize("seconds, heard", [(0.5, True), (0.97, False), (1.5, False)])
def test_who_asks_for_a_scale_and_is_disturbed(seconds, heard):
    """virtio_snd would free the memory for the answer when the application gets a signal, or after a second; an
    answer that came later would be written into what belongs to others."""

    def describe_scale(queue, chain):
        time.sleep(seconds)
        queue.write(chain, OK + SCALE)

    def describe_control(queue, chain):
        queue.write(chain, control_info(chain.room))

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with Control() as control:
        answers = {CTL_INFO_CODE: describe_control, CTL_TLV_READ_CODE: describe_scale}
        backend = sound_device(control, answers, features=1 << 0, controls=1)  # VIRTIO_SND_F_CTLS
        card = wait_for_card()
        thread = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, (thread, signal.SIGUSR1)).start()
        if heard:
            assert read_scale(card) == SCALE
        else:
            with pytest.raises(OSError) as error:
                read_scale(card)
            assert error.value.errno in (errno.EIO, errno.ETIMEDOUT)
        wait_until(lambda: backend.codes[-1] == CTL_TLV_READ_CODE, what="the question")
        destroy("wire")
        backend.stop()
    signal.signal(signal.SIGUSR1, before)


def scale_device(control):
    answers = {
        CTL_INFO_CODE: lambda queue, chain: queue.write(chain, control_info(chain.room)),
        CTL_TLV_READ_CODE: lambda queue, chain: queue.write(chain, OK + SCALE),
    }
    return sound_device(control, answers, features=1 << 0, controls=1)


def test_who_asks_for_a_scale_into_memory_that_never_comes_can_be_killed():
    """A page may be a file's whose server does not answer, or as here one that its own process is to bring: were it
    waited for where nobody can be killed, the card's controls would stand still for ever."""
    with Control() as control:
        backend = scale_device(control)
        card = wait_for_card()
        child = os.fork()
        if child == 0:
            try:
                read_scale_into_absent_memory(card)
            finally:
                os._exit(1)
        time.sleep(1)
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it does not wait for its memory"
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, what="the end of who waits")
        assert read_scale(card) == SCALE
        destroy("wire")
        backend.stop()


def read_scale_into_absent_memory(card):
    """The header's page is there, what comes behind it is not."""
    header = absent_memory() + mmap.PAGESIZE - 8
    with open(f"/dev/snd/controlC{card.name.removeprefix('card')}", "rb") as file:
        ctypes.memmove(header, struct.pack("<2I", 1, len(SCALE)), 8)
        LIBC.ioctl(file.fileno(), TLV_READ_IOCTL, ctypes.c_void_p(header))


def absent_memory():
    """Address of two pages; the second is one that this process would have to bring, by userfaultfd(2)."""
    read_write, private = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = LIBC.mmap(None, 2 * mmap.PAGESIZE, read_write, private, -1, 0)
    faults = LIBC.syscall(USERFAULTFD, 0)
    assert faults >= 0, os.strerror(ctypes.get_errno())
    fcntl.ioctl(faults, UFFDIO_API, bytearray(struct.pack("<3Q", 0xAA, 0, 0)))
    missing = struct.pack("<4Q", address + mmap.PAGESIZE, mmap.PAGESIZE, 1, 0)
    fcntl.ioctl(faults, UFFDIO_REGISTER, bytearray(missing))
    return address


def test_a_scale_goes_into_memory_that_is_there_and_no_other():
    """Into pages that nobody has touched yet, too; what cannot be written is an error, and no question more."""
    with Control() as control:
        backend = scale_device(control)
        card = wait_for_card()
        memory = mmap.mmap(-1, 4096 * 4)
        with open(f"/dev/snd/controlC{card.name.removeprefix('card')}", "rb") as file:
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            header = start + 4096 - 8
            ctypes.memmove(header, struct.pack("<2I", 1, 2 * 4096), 8)
            assert LIBC.ioctl(file.fileno(), TLV_READ_IOCTL, ctypes.c_void_p(header)) == 0
            assert memory[4096 : 4096 + len(SCALE)] == SCALE
            asked = len(backend.codes)
            assert LIBC.mprotect(ctypes.c_void_p(start + 2 * 4096), 4096, mmap.PROT_READ) == 0
            assert LIBC.ioctl(file.fileno(), TLV_READ_IOCTL, ctypes.c_void_p(header)) == -1
            assert ctypes.get_errno() == errno.EFAULT
            assert len(backend.codes) == asked
        memory.close()
        destroy("wire")
        backend.stop()


def test_who_binds_the_driver_does_not_wait_for_its_answers():
    """A signal would end virtio_snd's wait, and it would free what the answer is for: it is probed in a thread of
    the kernel."""
    with Control() as control:
        backend = scale_device(control)
        card = wait_for_card()
        (virtio,) = pathlib.Path(device.SYSFS, "wire").glob("virtio*")
        pathlib.Path("/sys/bus/virtio/drivers/virtio_snd/unbind").write_text(virtio.name)
        assert not card.exists()
        bind_virtio_snd(virtio.name)
        assert read_scale(wait_for_card()) == SCALE
        destroy("wire")
        backend.stop()


def streaming_device(control, direction, flags=0):
    """A sound device of one stream, S16 stereo at 48 kHz; its messages are left to the test."""
    answers = {PCM_INFO_CODE: lambda queue, chain: queue.write(chain, OK + stream_info(0, direction))}
    return sound_device(control, answers, streams=1, flags=flags)


def application(card, direction):
    """aplay or arecord, which plays or records for a second."""
    options = ["-D", f"hw:{card.name.removeprefix('card')}", "-f", "S16_LE", "-r", "48000", "-c", "2", "-s", "48000"]
    options += ["--period-size", str(LONG_PERIOD), "--buffer-size", str(4 * LONG_PERIOD)]
    if direction == PLAYBACK:
        return Program("aplay", *options, "/dev/zero")
    return Program("arecord", *options, "-t", "raw", RECORDED)


def give_back(queue, chain):
    """A message of sound when its time has come, with what has been captured and a status."""
    time.sleep(0.01)
    queue.write(chain, b"\xaa" * (chain.room - PCM_STATUS) + struct.pack("<2I", SND_OK, 0))


def lie_and_go_on(queue, lie, app):
    """Until the application ends. Returns how many messages it was given back, the lie among them."""
    given = 7
    # All of the application's buffer, and more, before the lie.
    for number in range(given):
        chain = wait_until(lambda: queue.pop() or not app.running(), what=f"message {number}")
        assert chain is not True, f"the application has ended before message {number}: {app.output()}"
        (lie if number == given - 1 else give_back)(queue, chain)
    return given + go_on(queue, app)


def go_on(queue, app):
    """Gives messages of sound back until the application ends; returns how many."""
    given = 0
    while app.running():
        if (chain := queue.pop()) is not None:
            give_back(queue, chain)
            given += 1
        time.sleep(0.001)
    return given


@pytest.mark.parametrize("direction", [PLAYBACK, CAPTURE], ids=["playing", "capturing"])
def test_a_storm_of_calls_of_a_card_in_use(neighbour, direction):
    """Each is an interrupt of virtio_snd, among those that say that sound was played."""
    with Control() as control:
        backend = streaming_device(control, direction, device.F_ZERO_COPY)
        card = wait_for_card()
        served = backend.served

        def meanwhile():
            app = application(card, direction)
            go_on(served.queues[TXQ + direction], app)
            assert app.status == 0, app.output()

        with storm(served):
            neighbour.play(meanwhile)
        destroy("wire")
        backend.stop()


@pytest.mark.parametrize("direction", [PLAYBACK, CAPTURE], ids=["playing", "capturing"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_sound_that_was_used(neighbour, lie, direction):
    """The application has an error at most, and never what the device has not given it."""
    RECORDED.unlink(missing_ok=True)
    log = KernelLog()
    with Control() as control:
        backend = streaming_device(control, direction, device.F_ZERO_COPY)
        app = application(wait_for_card(), direction)
        queue = wait_until(lambda: backend.served, what="the queues").queues[TXQ + direction]
        given = 0

        def meanwhile():
            nonlocal given
            given = lie_and_go_on(queue, LIES[lie], app)

        neighbour.play(meanwhile)
        assert app.status in (0, 1), app.output()
        heard = any(re.search(REFUSED, text) for _, text in log.new_lines())
        # What lies behind a used index that goes backwards may be a buffer of the driver's again.
        if lie != "backwards":
            assert heard == ("length" not in lie), "virtio_ring refuses what is no buffer of the driver's"
        if direction == CAPTURE:
            recorded = RECORDED.read_bytes()
            assert set(recorded) <= {0xAA} and len(recorded) <= given * 4 * LONG_PERIOD
        destroy("wire")
        backend.stop()
    log.close()


def test_sound_that_comes_when_the_application_has_gone_is_written_nowhere():
    """The kernel gives an application's buffer back when it closes the card, whether the device has given its
    messages back or not. Here all of it is copied: nothing of it is mapped."""
    with Control() as control:
        backend = streaming_device(control, CAPTURE)
        card = wait_for_card()
        number = card.name.removeprefix("card")
        command = ["arecord", "-q", "-D", f"hw:{number}", "-f", "S16_LE", "-r", "48000", "-c", "2", "-d", "1"]
        command.append("/dev/null")
        recording = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert "Input/output error" in recording.stderr, recording
        rx = backend.served.queues[RXQ]
        held = []
        while (chain := rx.pop()) is not None:
            held.append(chain)
        assert held
        # Whoever needs memory now gets what has just been freed.
        others = bytearray(b"\x55") * (64 << 20)
        for chain in held:
            rx.write(chain, b"\xaa" * chain.room)
        time.sleep(0.5)
        assert others.count(b"\x55") == len(others), "memory of this process was written to"
        destroy("wire")
        backend.stop()


@pytest.mark.kernel_may_say("the process floods the driver")
def test_events_without_end():
    """The driver hands each buffer back at once that it takes, so one and the same can come again and again,
    with interrupts off. There is an end to that, and it costs the device its queue."""
    with Control() as control:
        control.create("wire", SOUND, [64] * 4, bytes(16))
        control.wait_request(device.START)
        served = Served(control)
        control.answer(device.Request(id=1))
        where = served.queues[EVENTQ].where
        handed_over = where.driver_addr + 2
        wait_until(lambda: served.memory.u16(handed_over) == where.size, what="the buffers for events")
        for slot in range(where.size):
            struct.pack_into("<II", served.memory.map, where.device_addr + 4 + 8 * slot, 0, 0)
        served.memory.set_u16(where.device_addr + 2, 60000)
        os.eventfd_write(served.queues[EVENTQ].call, 1)
        time.sleep(0.5)
        assert where.size < served.memory.u16(handed_over) <= where.size + 4 * 1024
        destroy("wire")
        served.close()
