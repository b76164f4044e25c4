# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Tests that run inside a virtual machine, as its root; tests/harness/vm-tests starts them there.

From the environment:
  VIRTIO_LOOPBACK_MODULE    virtio_loopback.ko for the kernel that runs
  VIRTIO_LOOPBACK_BINARIES  folder with the programs virtio-loopback and vhost-user-sound

Every test, also one that asks for no fixture, finds the module loaded, and fails if the kernel
logs a complaint meanwhile, if a program panics, if it leaves a loopback device behind, or if it takes too long
(180 s of the guest's time, or what @pytest.mark.time_limit says).
"""

import gc
import os
import re
import signal
import subprocess

import linux
import programs
import pytest
import sound_server
from card import CLASS, Card
from fuzz.reports import leaks, lockdep_watches
from kernel_log import KernelLog
from machine import load_module, prepare, unload_module
from programs import wait_until
from real_card import RealCard
from sound_server import SoundServer

TIME_LIMIT = 180


def pytest_configure(config):
    config.addinivalue_line("markers", "core: belongs to the set that runs on every kernel")
    config.addinivalue_line("markers", "kernel_may_say(pattern): lines that are no complaint in this test")
    config.addinivalue_line("markers", "unserved_rng: leaves a request of virtio_rng without an answer")
    config.addinivalue_line("markers", "time_limit(seconds): other than the usual limit, in the guest's time")
    config.addinivalue_line("markers", "two_cpus: runs only where the guest has two CPUs, in a run of its own")


# Before 6.12 a virtio_rng whose request nobody answers, which some tests do on purpose, holds the
# lock of all random number generators for ever: hwrng waits for it under the lock that its own
# probe and removal need.
RANDOM_DEVICES_HANG = linux.VERSION < (6, 12)


def pytest_collection_modifyitems(config, items):
    if os.cpu_count() < 2:
        elsewhere = [item for item in items if item.get_closest_marker("two_cpus")]
        items[:] = [item for item in items if item not in elsewhere]
        config.hook.pytest_deselected(items=elsewhere)
    for item in items:
        # Those of the driver alone need nothing else that a kernel might not have.
        if item.path.name.startswith("test_driver_"):
            item.add_marker("core")
        if RANDOM_DEVICES_HANG and item.get_closest_marker("unserved_rng"):
            item.add_marker(pytest.mark.skip(reason="this kernel's hw_random hangs on a device nobody serves"))


@pytest.fixture(scope="session", autouse=True)
def machine(request):
    """The guest, ready for the tests; at the end, what its kernel has watched all the time."""
    if os.getuid() or not os.environ.get("VIRTIO_LOOPBACK_MODULE"):
        pytest.exit("these tests run as root in a virtual machine: use tests/harness/vm-tests", 2)
    prepare()
    yield
    assert lockdep_watches(), "lockdep has given up"
    found = leaks()
    assert not found, f"memory that nothing refers to:\n{found}"
    # One that has failed may have left open what keeps the driver.
    if not request.session.testsfailed:
        gc.collect()  # what tests have left open in this process
        unload_module()


def alarm(number, frame):
    raise TimeoutError("the test's time is up")


@pytest.fixture(autouse=True)
def watch(machine, request):
    """What every test has to keep to, see the top of this file; and the kernel's log, for one in which more is said
    than the kernel keeps."""
    log = KernelLog()
    load_module()
    marker = request.node.get_closest_marker("time_limit")
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(marker.args[0] if marker else TIME_LIMIT)
    before = devices()
    yield log
    signal.alarm(0)
    panics = programs.Program.panics()
    programs.Program.kill_all()
    leftovers = leftover_devices(before)
    expected = [mark.args[0] for mark in request.node.iter_markers("kernel_may_say")]
    complaints = [line for line in log.complaints() if not any(re.search(pattern, line) for pattern in expected)]
    log.close()
    for name in leftovers:
        subprocess.run([programs.path_of("virtio-loopback"), "destroy", name], capture_output=True)
    assert not complaints, "the kernel complained:\n" + "\n".join(complaints)
    assert not leftovers, f"left behind: {', '.join(leftovers)}"
    assert not panics, "\n".join(panics)


def devices():
    return set(os.listdir(CLASS)) if CLASS.exists() else set()


def leftover_devices(before):
    """Names of this test's devices that are still there after they had time to go."""
    try:
        wait_until(lambda: devices() <= before, "no devices", 3)
        return []
    except AssertionError:
        return sorted(devices() - before)


@pytest.fixture
def make_card(request):
    """Makes cards: make_card("music", "--host", "null"). They are taken down after the test."""
    cards = []

    def make(name, *host, kind=Card):
        card = kind(name, *host)
        cards.append(card)
        return card.start()

    yield make
    failed = getattr(request.node, "call_failed", True)
    if failed:
        for card in cards:
            print(card.report())
        # Removing a card waits for who plays on it.
        programs.Program.kill_all()
        for card in cards:
            card.abandon()
        return
    try:
        for card in cards:
            card.destroy()
    finally:
        for card in cards:
            card.abandon()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.call_failed = report.failed


@pytest.fixture
def real():
    """The cable of the first real card that the test may use."""
    return RealCard("real0")


@pytest.fixture
def music(make_card, real):
    """A card `music` whose sound goes to, and comes from, a real card."""
    return make_card(
        "music", "--host", "alsa", "--playback-device", real.device, "--capture-device", real.device
    )


@pytest.fixture(scope="session")
def sound_servers_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    sound_server.install()


@pytest.fixture
def make_server(sound_servers_in_memory):
    """Makes a sound server, which ends with the test."""
    servers = []

    def make(**options):
        servers.append(SoundServer(**options))
        return servers[-1]

    yield make
    for server in servers:
        print(server.report())
        server.stop()
