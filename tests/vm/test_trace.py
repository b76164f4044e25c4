# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The driver's trace events tell what happens, with the values of what happens."""

import contextlib
import errno
import pathlib
import re
import subprocess

import alsa_tools
import device
import network
import pytest
import sounds
from device import Control, Served, sysfs, wait_until
from network import RX, TX, Interface
from sounds import Layout

pytestmark = pytest.mark.core
TRACING = pathlib.Path("/sys/kernel/tracing")
EVENTS = TRACING / "events" / "virtio_loopback"
WORK = TRACING / "events" / "workqueue" / "workqueue_execute_start" / "enable"
NAMES = {"vl_kick", "vl_call", "vl_map", "vl_unmap", "vl_request"}


class Trace:
    """What the driver's events have said since it was last read."""

    def read(self):
        text = (TRACING / "trace").read_text()
        (TRACING / "trace").write_text("")
        return re.findall(r": (vl_\w+: .*)$", text, re.MULTILINE)


@pytest.fixture
def trace():
    with contextlib.ExitStack() as stack:
        if not EVENTS.exists():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True)
        (TRACING / "trace").write_text("")
        (EVENTS / "enable").write_text("1")
        stack.callback((EVENTS / "enable").write_text, "0")
        yield Trace()
    device.destroy_all()


def buffers(event, parts, how):
    return [f"{event}: wire: {address:#x}+{length} {how} bounced" for address, length in parts]


def test_the_events_are_those_that_are_told_of(trace):
    assert {path.name for path in EVENTS.iterdir() if path.is_dir()} == NAMES


def test_requests_and_their_answers(trace):
    with Control() as control:
        control.create("wire")
        start = control.wait_request(device.START)
        control.answer(start)
        wait_until(lambda: sysfs("wire", "driver") == "virtio_net")
        control.destroy("wire")
        stop = control.wait_request(device.STOP)
        control.answer(stop, -errno.EIO)
        wait_until(lambda: control.list()[1] == 0)
    requests = [line for line in trace.read() if line.startswith("vl_request")]
    assert requests == [
        f"vl_request: wire: {start.id} start {-errno.EINPROGRESS}",
        f"vl_request: wire: {start.id} start 0",
        f"vl_request: wire: {stop.id} stop {-errno.EINPROGRESS}",
        f"vl_request: wire: {stop.id} stop {-errno.EIO}",
    ]


def test_a_frame_on_its_way(trace):
    with Control() as control:
        control.create("wire")
        start = control.wait_request(device.START)
        served = Served(control)
        control.answer(start)
        with Interface("wire") as wire:
            rx, tx = (served.queues[index] for index in (RX, TX))
            wait_until(lambda: int(sysfs("wire", "kicks")) > 0)
            posted = trace.read()
            assert "vl_kick: wire: queue 0" in posted
            first = rx.pop()
            assert set(buffers("vl_map", first.writable, "from device")) <= set(posted)

            wire.send()
            sent = tx.wait()
            assert trace.read() == [*buffers("vl_map", sent.readable, "to device"), "vl_kick: wire: queue 1"]

            rx.write(first, bytes(network.HEADER) + network.frame(b"back"))
            assert wire.receive() == b"back"
            received = trace.read()
            assert received[0] == "vl_call: wire: queue 0"
            assert set(buffers("vl_unmap", first.writable, "from device")) <= set(received)
        kicks = int(sysfs("wire", "kicks"))
        served.close()
    assert kicks == 2


def test_sound_is_mapped_in_place(make_card, trace):
    layout, period = Layout(), 1024
    card = make_card("music", "--host", "null", "--controls", "none")
    trace.read()
    alsa_tools.play(card.pcm, sounds.noise(layout, 8 * period), period=period, buffer=4 * period)
    lines = trace.read()
    page = rf"vl_(map|unmap): music: 0x[0-9a-f]+000\+{period * layout.frame_bytes} to device in place"
    seen = [match[1] for line in lines if (match := re.fullmatch(page, line))]
    # A driver before 6.12 hands its whole buffer over, and each period again.
    assert min(seen.count("map"), seen.count("unmap")) >= 8


def evictions():
    return (TRACING / "trace").read_text().count("function vl_zero_copy_evict_work")


def test_pages_that_come_again_wake_no_kernel_thread(make_card, trace):
    """What looks for pages that no longer come finds none while sound is played."""
    card = make_card("music", "--host", "null")
    WORK.write_text("1")
    try:
        alsa_tools.play(card.pcm, sounds.noise(Layout(), 8 * 48000), period=1024, buffer=4096)
        assert evictions() == 0
        wait_until(lambda: sysfs("music", "zero_copy_pages") == "0", what="the pages to be let go")
        assert evictions() > 0
    finally:
        WORK.write_text("0")
