# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An application that makes calls of a card when nobody expects them, by itself or together with its device process,
gets nothing of the kernel's: messages are not sent but of a stream that is prepared.

After each test a card next door plays, bit for bit, and the kernel has not complained, but for what virtio_snd has to
say about its own device.
"""

import contextlib
import ctypes
import ctypes.util
import errno
import os
import pathlib
import struct
import threading
import time

import pytest
from device import Control, wait_until
from test_hostile_device import (
    CAPTURE, DRIVERS_SAY, LIBC, OK, PCM_INFO_CODE, PERIOD, PLAYBACK, TXQ, destroy,
    neighbour,  # noqa: F401
    sound_device, stream_info, wait_for_card,
)

pytestmark = pytest.mark.kernel_may_say(DRIVERS_SAY)
ALSA = ctypes.CDLL(ctypes.util.find_library("asound"))
HW_PARAMS, HW_FREE, PREPARE, START, PAUSE = 0xC2604111, 0x4112, 0x4140, 0x4142, 0x40044145
LINK, UNLINK = 0x40044160, 0x4161
SYNC_PTR, SYNC_PTR_LAYOUT = 0xC0884123, "<Q64x2Q48x"  # flags, status, control: where the application is
HW_PARAMS_BYTES = 608
RW_INTERLEAVED, U8, S16_LE, IMA_ADPCM = 3, 1, 2, 22
SET_PARAMS_CODE, RELEASE_CODE, START_CODE = 0x101, 0x103, 0x104
IO_ERR = struct.pack("<I", 0x8003)


class Stream:
    """A stream of a card, by its system calls; what cannot be done raises OSError."""

    def __init__(self, card, direction):
        self.handle = ctypes.c_void_p()
        name = f"hw:{card.name.removeprefix('card')}".encode()
        assert ALSA.snd_pcm_open(ctypes.byref(self.handle), name, direction, 0) == 0
        descriptors = (ctypes.c_uint64 * 1)()  # struct pollfd
        assert ALSA.snd_pcm_poll_descriptors(self.handle, descriptors, 1) == 1
        self.fd = descriptors[0] & 0xFFFFFFFF

    def call(self, number, argument=None):
        if LIBC.ioctl(self.fd, number, argument) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def any_parameters(self):
        parameters = ctypes.create_string_buffer(HW_PARAMS_BYTES)
        assert ALSA.snd_pcm_hw_params_any(self.handle, parameters) >= 0
        return parameters

    def set_parameters(self, periods, period=PERIOD):
        parameters = self.any_parameters()
        for name, value in [("access", RW_INTERLEAVED), ("format", S16_LE), ("channels", 2)]:
            assert getattr(ALSA, f"snd_pcm_hw_params_set_{name}")(self.handle, parameters, value) == 0, name
        frames = ctypes.c_ulong(period)
        assert ALSA.snd_pcm_hw_params_set_period_size(self.handle, parameters, frames, 0) == 0
        assert ALSA.snd_pcm_hw_params_set_periods(self.handle, parameters, periods, 0) == 0
        self.call(HW_PARAMS, parameters)

    def says_it_is_at(self, frames):
        self.call(SYNC_PTR, ctypes.create_string_buffer(struct.pack(SYNC_PTR_LAYOUT, 0, frames, 1)))

    def vanish(self):
        """As with an application that is killed: alsa-lib does nothing before, and never hears of it."""
        self.handle = None
        node = os.readlink(f"/proc/self/fd/{self.fd}")
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
            if line.endswith(node):
                start, end = (int(address, 16) for address in line.split()[0].split("-"))
                LIBC.munmap(ctypes.c_void_p(start), ctypes.c_size_t(end - start))
        os.close(self.fd)

    def close(self):
        handle, self.handle = self.handle, None
        if handle:
            ALSA.snd_pcm_close(handle)


@contextlib.contextmanager
def streams(*directions, answers=None, size=64):
    """Streams of a card whose messages are left to the test; each with its queue, of so many entries."""
    infos = b"".join(stream_info(0, direction) for direction in directions)
    answers = {PCM_INFO_CODE: lambda queue, chain: queue.write(chain, OK + infos), **(answers or {})}
    with Control() as control:
        backend = sound_device(control, answers, size=size, streams=len(directions))
        card = wait_for_card()
        queues = wait_until(lambda: backend.served, what="the queues").queues
        opened = [(Stream(card, direction), queues[TXQ + direction]) for direction in directions]
        try:
            yield opened
        finally:
            for app, _ in opened:
                app.close()
            destroy("wire")
            backend.stop()


@contextlib.contextmanager
def stream(direction, answers=None):
    with streams(direction, answers=answers) as [opened]:
        yield opened


def nothing_comes(queue, seconds=0.3):
    time.sleep(seconds)
    return queue.pop() is None


@pytest.mark.parametrize("direction", [PLAYBACK, CAPTURE], ids=["playback", "capture"])
def test_who_has_given_up_the_buffer_has_nothing_to_say(direction):
    """Its messages are gone: virtio_snd would follow a NULL pointer."""
    with stream(direction) as (app, queue):
        app.set_parameters(4)
        app.call(PREPARE)
        app.call(HW_FREE)
        for period in range(1, 5):
            app.says_it_is_at(period * PERIOD)
        assert nothing_comes(queue)


def test_a_buffer_that_has_been_given_up_is_handed_to_nobody():
    """A message that is out keeps the rest of them, which name pages that others may have by now."""
    with stream(PLAYBACK) as (app, queue):
        app.set_parameters(4)
        app.call(PREPARE)
        app.says_it_is_at(PERIOD)
        wait_until(queue.pop, what="the first message")
        app.call(HW_FREE)
        for period in range(2, 5):
            app.says_it_is_at(period * PERIOD)
        assert nothing_comes(queue)


@pytest.mark.parametrize("direction", [PLAYBACK, CAPTURE], ids=["playback", "capture"])
def test_a_buffer_that_has_become_shorter_ends_where_it_ends(direction):
    """virtio_snd would go on to the end of the longer one, behind the end of its messages."""
    with stream(direction) as (app, queue):
        app.set_parameters(16)
        app.call(PREPARE)
        app.set_parameters(2)
        for period in range(1, 17):
            with contextlib.suppress(OSError):
                app.says_it_is_at(period * PERIOD)
        assert nothing_comes(queue)


def test_who_changes_parameters_meanwhile_is_not_started():
    """A device process may take its time with them; what is sent meanwhile would be freed under its hands."""
    asked, answer = threading.Event(), threading.Event()

    def take_time(queue, chain):
        asked.set()
        answer.wait(20)
        queue.write(chain, OK)

    answer.set()
    with stream(PLAYBACK, {SET_PARAMS_CODE: take_time}) as (app, queue):
        app.set_parameters(4)
        app.call(PREPARE)
        asked.clear()
        answer.clear()
        other = threading.Thread(target=app.set_parameters, args=[4])
        other.start()
        assert asked.wait(20)
        app.says_it_is_at(PERIOD)
        assert nothing_comes(queue, 0.1)
        # The sound core then has the stream stopped, which is asked of the device, too.
        threading.Timer(0.3, answer.set).start()
        with pytest.raises(OSError) as error:
            app.call(START)
        assert error.value.errno == errno.EBUSY
        other.join()
        assert queue.pop() is None
        app.call(PREPARE)
        app.says_it_is_at(PERIOD)
        wait_until(queue.pop, what="the first message")


def test_samples_of_half_a_byte_are_not_offered():
    """A buffer of them may be longer than its periods, of which virtio_snd has a message each."""
    info = bytearray(stream_info(0, PLAYBACK))
    struct.pack_into("<Q", info, 8, 1 << 0 | 1 << 4)  # VIRTIO_SND_PCM_FMT_IMA_ADPCM, U8
    with stream(PLAYBACK, {PCM_INFO_CODE: lambda queue, chain: queue.write(chain, OK + bytes(info))}) as (app, _):
        parameters = app.any_parameters()
        assert ALSA.snd_pcm_hw_params_test_format(app.handle, parameters, U8) == 0
        assert ALSA.snd_pcm_hw_params_test_format(app.handle, parameters, IMA_ADPCM) != 0


def linked(first, second):
    for app in (first, second):
        app.set_parameters(4)
    first.call(LINK, second.fd)
    first.call(PREPARE)


@pytest.mark.parametrize("failing", [PLAYBACK, CAPTURE], ids=["playback", "capture"])
def test_a_stream_that_could_not_be_started_with_another_one_is_not_taken_for_started(failing):
    """The sound core stops those that have been started. What the device gives back of the other one when that has
    been closed, virtio_snd would have told an application that is not there."""

    def start(queue, chain):
        _, number = struct.unpack("<II", queue.read(chain))
        queue.write(chain, IO_ERR if number == failing else OK)

    with streams(PLAYBACK, CAPTURE, answers={START_CODE: start}) as opened:
        (player, _), (recorder, _) = opened
        linked(player, recorder)
        player.says_it_is_at(PERIOD)
        with pytest.raises(OSError) as error:
            player.call(START)
        assert error.value.errno == errno.EIO
        app, queue = opened[failing]
        chain = wait_until(queue.pop, what="the first message")
        app.close()
        queue.write(chain, OK)


def test_a_stream_that_is_being_closed_is_not_started_with_another_one():
    """Its device process takes its time; meanwhile another thread prepares and starts both."""
    held = []

    def hold_of_capture(queue, chain):
        _, number = struct.unpack("<II", queue.read(chain))
        if number == 1:
            held.append((queue, chain))
        else:
            queue.write(chain, OK)

    with streams(PLAYBACK, CAPTURE, answers={RELEASE_CODE: hold_of_capture}) as [(player, txq), (recorder, rxq)]:
        linked(player, recorder)
        player.says_it_is_at(PERIOD)
        player.call(START)
        messages = [(queue, wait_until(queue.pop, what="a message")) for queue in (txq, rxq, rxq, rxq, rxq)]
        closing = threading.Thread(target=recorder.close)
        closing.start()
        for queue, chain in messages:
            queue.write(chain, OK)
        (control, question), = wait_until(lambda: held, what="the question that is held back")
        player.call(PREPARE)
        player.says_it_is_at(PERIOD)
        with pytest.raises(OSError) as error:
            player.call(START)
        assert error.value.errno == errno.EBADFD
        txq.write(wait_until(txq.pop, what="a message"), OK)
        assert rxq.pop() is None, "it was started"
        control.write(question, OK)
        closing.join()
        # By itself the other one plays.
        player.call(PREPARE)
        player.says_it_is_at(PERIOD)
        player.call(START)
        wait_until(txq.pop, what="a message")


def test_a_stream_that_has_been_started_meanwhile_is_not_prepared():
    """Who prepares it has to wait while others are unlinked, which waits for their start; the sound core has looked at
    its state before. Messages would be sent as if it had begun anew, and be given back when it has been closed."""
    held, results = {}, {}

    def hold(queue, chain):
        _, number = struct.unpack("<II", queue.read(chain))
        held[number] = lambda: queue.write(chain, OK)
        if number == 1:
            held[number]()

    def call(what, app, number):
        def make():
            try:
                results[what] = app.call(number)
            except OSError as error:
                results[what] = error.errno

        thread = threading.Thread(target=make)
        thread.start()
        time.sleep(0.1)
        return thread

    with streams(PLAYBACK, CAPTURE, PLAYBACK, answers={START_CODE: hold}) as [(player, _), (recorder, _), (other, _)]:
        linked(player, recorder)
        player.says_it_is_at(PERIOD)
        other.set_parameters(4)
        other.call(PREPARE)
        other.says_it_is_at(PERIOD // 2)
        threads = [call("start both", player, START), call("unlink", player, UNLINK), call("prepare", other, PREPARE),
                   call("start", other, START)]
        assert not results, results
        held[0]()
        time.sleep(0.1)
        assert "prepare" not in results
        held[2]()
        for thread in threads:
            thread.join()
    assert results == {"start both": None, "unlink": None, "prepare": errno.EBUSY, "start": None}


@pytest.mark.parametrize("pair", [False, True], ids=["alone", "linked"])
def test_a_paused_stream_whose_application_is_killed_is_stopped_and_released(pair):
    """The sound core takes its pause back for that, while it is being closed."""
    released = []

    def release(queue, chain):
        released.append(struct.unpack("<II", queue.read(chain))[1])
        queue.write(chain, OK)
        for app_queue, message in messages:
            app_queue.write(message, OK)
        messages.clear()

    messages = []
    with streams(PLAYBACK, CAPTURE, answers={RELEASE_CODE: release}) as [(player, txq), (recorder, rxq)]:
        for app in (player, recorder):
            app.set_parameters(4)
        if pair:
            player.call(LINK, recorder.fd)
        player.call(PREPARE)
        player.says_it_is_at(PERIOD)
        player.call(START)
        messages = [(txq, wait_until(txq.pop, what="a message"))]
        if pair:
            messages += [(rxq, wait_until(rxq.pop, what="a message")) for _ in range(4)]
        player.call(PAUSE, 1)
        released.clear()
        player.vanish()
        wait_until(lambda: 0 in released, what="the release of what was played")
        # The other one of the pair is as it was before it started.
        recorder.call(PREPARE)
        recorder.call(START)


def test_a_period_that_no_queue_has_room_for():
    """virtio_ring would warn of each of its messages."""
    with streams(PLAYBACK, size=4) as [(app, queue)]:
        with pytest.raises(OSError) as error:
            app.set_parameters(2, period=3072)
        assert error.value.errno == errno.ENOMEM  # what virtio_ring says
        app.set_parameters(2, period=512)
        app.call(PREPARE)
        app.says_it_is_at(512)
        wait_until(queue.pop, what="the first message")
