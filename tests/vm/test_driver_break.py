# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Everything at once, in no order: the kernel stays quiet and nothing is left behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import device
import pytest
from device import Backend, Control, wait_until
from machine import load_drivers, watches_itself
from network import HEADER, answer, ask, interface, keep, set_up

SECONDS = 1 if watches_itself() else 8  # such a kernel is given many times the instructions in each


@pytest.fixture(autouse=True)
def tidy():
    load_drivers("virtio_net")
    yield
    device.destroy_all()


def in_threads(count, work):
    """Run `work(random)` in threads for a while; their exceptions fail the test."""
    errors = []
    end = time.monotonic() + SECONDS

    def loop(seed):
        rng = random.Random(seed)
        try:
            while time.monotonic() < end:
                work(rng)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(seed,), daemon=True) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 30)
        assert not thread.is_alive(), "a call hangs"
    if errors:
        raise errors[0]


def attempt(call):
    try:
        return call()
    except (OSError, AssertionError, TimeoutError):
        return None


def test_calls_from_many_threads_on_one_device():
    control = Control()
    control.create("wire", queue_sizes=[8, 8], config=bytes(64))
    eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]

    def work(rng):
        index = rng.randrange(3)
        call = rng.choice(
            [
                lambda: control.answer(control.read_request()),
                lambda: control.set_eventfds(index, rng.choice([-1, *eventfds]), rng.choice([-1, *eventfds])),
                lambda: os.eventfd_write(rng.choice(eventfds), 1),
                lambda: control.set_config(0, bytes(64), device.CONFIG_NOTIFY),
                lambda: control.queue(index),
                control.device,
                control.list,
                lambda: os.close(control.memory()),
                lambda: device.sysfs("wire", "driver"),
                lambda: control.create("again"),
                lambda: control.attach("wire"),
            ]
        )
        attempt(call)

    in_threads(6, work)
    control.close()
    for fd in eventfds:
        os.close(fd)


def test_devices_come_and_go_from_many_threads():
    names = [f"d{i}" for i in range(4)]

    def work(rng):
        with Control() as control:
            name = rng.choice(names)
            step = rng.randrange(3)
            if step == 0:
                attempt(lambda: control.create(name, queue_sizes=[8, 8]))
            elif step == 1:
                attempt(lambda: control.attach(name))
            else:
                attempt(lambda: control.destroy(name))
                return
            if not control.poll(rng.random() / 5) & device.select.POLLIN:
                return
            request = attempt(control.read_request)
            if request is None:
                return
            served = attempt(lambda: device.Served(control))
            attempt(lambda: control.answer(request))
            time.sleep(rng.random() / 10)
            if served:
                attempt(served.close)

    in_threads(6, work)


def test_closing_after_each_step():
    steps = [
        lambda c, s: c.create("wire"),
        lambda c, s: s.update(request=c.wait_request(device.START)),
        lambda c, s: s.update(memory=device.Memory(c.memory())),
        lambda c, s: s.update(kick=os.eventfd(0), call=os.eventfd(0)),
        lambda c, s: c.set_eventfds(0, s["kick"], s["call"]),
        lambda c, s: s.update(queue=device.SplitQueue(s["memory"], c.queue(0), s["kick"], s["call"])),
        lambda c, s: c.answer(s["request"]),
        lambda c, s: set_up(interface("wire")),
        lambda c, s: s.update(chain=s["queue"].wait()),
        lambda c, s: s["queue"].write(s["chain"], bytes(HEADER) + b"x" * 52),
        lambda c, s: c.destroy("wire"),
        lambda c, s: c.answer(c.wait_request(device.STOP)),
    ]
    for last in range(1, len(steps) + 1):
        control, state = Control(), {}
        for step in steps[:last]:
            step(control, state)
        control.close()
        if "memory" in state:
            state["memory"].read(0, state["memory"].size)
        for fd in ("kick", "call"):
            if fd in state:
                os.close(state[fd])
        device.destroy_all()
        if "memory" in state:
            state["memory"].read(0, state["memory"].size)
            state["memory"].close()


SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from device import *
from network import *
control = Control()
control.attach("wire")
Backend(control, answer(b"killed")).join()
"""


def test_killing_the_process_again_and_again():
    with Control() as control:
        control.create("wire")
    here = os.path.dirname(os.path.abspath(__file__))
    rng = random.Random(1)
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-B", "-c", SERVE, here])
        wait_until(lambda: device.sysfs("wire", "attached") == "1", what="the process")
        time.sleep(rng.random() / 2)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        wait_until(lambda: device.sysfs("wire", "attached") == "0", what="the end of the process")
    with Control() as control:
        control.attach("wire")
        backend = Backend(control, answer(b"alive"))
        assert ask("wire") == b"alive"
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0)
        backend.stop()


def test_reading_memory_while_queues_come_and_go():
    """Faults against freeing: an old page never stays behind in a mapping."""
    with Control() as control:
        control.create("wire")
        backend = Backend(control, keep)
        wait_until(lambda: backend.served)
        memory = device.Memory(control.memory())
        name = f"virtio{control.device().virtio_index}"
        stop = threading.Event()

        def read():
            while not stop.is_set():
                for page in range(0, memory.size, device.PAGE):
                    memory.read(page, 8)

        readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
        for reader in readers:
            reader.start()
        for _ in range(10):
            for action in ("unbind", "bind"):
                with open(f"/sys/bus/virtio/drivers/virtio_net/{action}", "w", encoding="ascii") as file:
                    file.write(name)
        stop.set()
        for reader in readers:
            reader.join(20)
        set_up(interface("wire"))
        where = control.queue(0)
        wait_until(lambda: memory.u16(where.driver_addr + 2) > 0, what="the last queue in the mapping")
        memory.close()
        control.destroy("wire")
        wait_until(lambda: control.list()[1] == 0)
        backend.stop()
