# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Config space: read from the kernel's copy, written by request, changed with notice."""

import glob
import os
import struct

import device
import pytest
from device import INPUT, NET, Backend, Control, sysfs, wait_until
from machine import load_drivers
from network import interface, keep, set_up

MAC = b"\x02\x6c\x6f\x6f\x70\x01"
NET_F_MAC, NET_F_STATUS, NET_F_DEVICE_STATS = 1 << 5, 1 << 16, 1 << 50
NET_F_STANDBY = 1 << 62
LINK_UP = 1


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net", "virtio_input")
    yield
    device.destroy_all()


def net_file(name, file):
    with open(f"/sys/class/net/{name}/{file}", encoding="ascii") as attribute:
        return attribute.read().strip()


def create_net(control, more_features=0, **fields):
    control.create(
        "net",
        device_id=NET,
        queue_sizes=[64, 64],
        config=MAC + struct.pack("<HHH", LINK_UP, 1, 1500),
        features=NET_F_MAC | NET_F_STATUS | more_features,
        **fields,
    )


def finish(control, name, backend):
    control.destroy(name)
    wait_until(lambda: control.list()[1] == 0)
    backend.stop()


def test_the_driver_reads_what_create_gave():
    with Control() as control:
        create_net(control)
        backend = Backend(control, keep)
        name = interface("net")
        assert net_file(name, "address") == MAC.hex(":")
        finish(control, "net", backend)


def test_statistics_without_a_queue_to_ask_for_them():
    """virtio_net, from 6.10 on, would stop the kernel."""
    with Control() as control:
        create_net(control, more_features=NET_F_DEVICE_STATS)
        backend = Backend(control, keep)
        assert net_file(interface("net"), "address") == MAC.hex(":")
        finish(control, "net", backend)


def test_a_network_card_stands_in_for_no_other():
    """net_failover takes a lock that it has not made."""
    with Control() as control:
        create_net(control, more_features=NET_F_STANDBY)
        backend = Backend(control, keep)
        assert net_file(interface("net"), "address") == MAC.hex(":")
        assert not control.device().driver_features & NET_F_STANDBY
        finish(control, "net", backend)


def test_a_change_with_notice_reaches_the_driver():
    with Control() as control:
        create_net(control)
        backend = Backend(control, keep)
        name = interface("net")
        set_up(name)
        wait_until(lambda: net_file(name, "carrier") == "1")
        for carrier in (0, 1, 0):
            control.set_config(6, struct.pack("<H", carrier), device.CONFIG_NOTIFY)
            wait_until(lambda: net_file(name, "carrier") == str(carrier), what=f"carrier {carrier}")
        finish(control, "net", backend)


def test_a_change_right_after_create_is_not_lost():
    for _ in range(10):
        with Control() as control:
            create_net(control)
            backend = Backend(control, keep)
            control.set_config(6, struct.pack("<H", 0), device.CONFIG_NOTIFY)
            name = interface("net")
            set_up(name)
            wait_until(lambda: net_file(name, "operstate") == "down", what="no link")
            finish(control, "net", backend)


def test_a_full_arena_is_an_error_not_a_hang():
    """The driver posts more buffers than there are slots; it copes, and so do we."""
    with Control() as control:
        create_net(control, bounce_size=4096)
        backend = Backend(control, keep)
        name = interface("net")
        set_up(name)
        wait_until(lambda: int(sysfs("net", "bounce_full")) > 0, what="a full arena")
        assert int(sysfs("net", "bounce_used")) <= 4096
        finish(control, "net", backend)


class InputConfig:
    """The config space of virtio-input: what is read depends on what was written."""

    ID_NAME, EV_BITS = 0x01, 0x11
    EV_KEY, KEY_A = 1, 30

    def __init__(self, control):
        self.control = control
        self.selected = bytearray(2)
        self.writes = []

    def write(self, offset, data):
        self.writes.append((offset, data))
        if offset + len(data) > 2:
            return
        self.selected[offset : offset + len(data)] = data
        answer = self.answer(*self.selected)
        space = bytes([*self.selected, len(answer)]) + bytes(5) + answer.ljust(128, b"\0")
        self.control.set_config(0, space)

    def answer(self, select, subselect):
        if select == self.ID_NAME:
            return b"Loopback keys"
        if (select, subselect) == (self.EV_BITS, self.EV_KEY):
            return bytes(self.KEY_A // 8) + bytes([1 << self.KEY_A % 8])
        return b""


def test_a_write_is_answered_before_the_driver_goes_on():
    with Control() as control:
        control.create("keys", device_id=INPUT, queue_sizes=[64, 8], config=bytes(136))
        config = InputConfig(control)
        backend = Backend(control, keep, write_config=config.write)
        found = wait_until(lambda: glob.glob(f"{device.SYSFS}/keys/virtio*/input/input*/name"), what="the input device")
        with open(found[0], encoding="ascii") as name:
            assert name.read().strip() == "Loopback keys"
        with open(f"{os.path.dirname(found[0])}/capabilities/key", encoding="ascii") as keys:
            assert int(keys.read().split()[-1], 16) == 1 << config.KEY_A
        assert all(len(data) == 1 for _, data in config.writes)
        assert sysfs("keys", "request_timeouts") == "0"
        finish(control, "keys", backend)


def test_writes_that_nobody_answers_do_not_hold_the_driver_for_ever():
    with Control() as control:
        control.create("keys", device_id=INPUT, queue_sizes=[64, 8], config=bytes(136))
        request = control.wait_request(device.CONFIG_WRITE)
        assert request.config_write[0] in (0, 1)
    # The adapter has gone: the driver goes on at once, and finds nothing.
    wait_until(lambda: sysfs("keys", "driver") == "virtio_input", timeout=8)
