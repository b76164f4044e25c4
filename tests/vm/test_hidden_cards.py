# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""WirePlumber leaves our cards alone, and no others, when one of the rules of examples/ is there."""

import pathlib
import shutil
import subprocess

import pytest
from foreign_card import ForeignCard
from programs import wait_until
from wireplumber import EXAMPLES, VERSIONS, WirePlumber

# Of the virtio cards, the name of ours begins with that of its device.
OURS = "VirtIO SoundCard at {}/"
RULE = EXAMPLES.parent / "udev" / "92-virtio-loopback-hide.rules"
RULES = pathlib.Path("/run/udev/rules.d")


@pytest.fixture(scope="module", autouse=True)
def programs_in_memory(machine):
    """Reading them from the host's disk takes longer than a test may."""
    for version in VERSIONS:
        WirePlumber(version).unpack()


@pytest.fixture(params=VERSIONS)
def server(make_card, request):
    """The servers, which end before the cards that they may have open."""
    server = WirePlumber(request.param)
    yield server
    if getattr(request.node, "call_failed", True):
        print(server.report())
    server.stop()


@pytest.fixture
def foreign():
    """A virtio card that is none of ours; it comes when the test says so."""
    return ForeignCard()


@pytest.fixture
def udev_rule():
    """Puts the rule in its place, when called."""

    def install():
        shutil.copy(RULE, RULES)
        reload_rules()

    yield install
    (RULES / RULE.name).unlink(missing_ok=True)
    reload_rules()


def reload_rules():
    subprocess.run(["udevadm", "control", "--reload"], check=True)  # does nothing in a root of its own


def hide_rule(server, folder):
    """A folder with the rule of the server's version alone."""
    (rule,) = (EXAMPLES / server.version).glob("*/*-hide-virtio-loopback.*")
    (folder / rule.parent.name).mkdir()
    shutil.copy(rule, folder / rule.parent.name)
    return folder


def has_taken(server, longname):
    return any(name.startswith(longname) for name in server.cards())


def wait_taken(server, longname):
    wait_until(lambda: has_taken(server, longname), f"WirePlumber to take {longname}", pause=0.5)


def test_the_rule_of_wireplumber_hides_our_cards_alone(server, make_card, foreign, tmp_path):
    make_card("before", "--host", "null")
    server.start(hide_rule(server, tmp_path))
    wait_taken(server, "Loopback 1")
    make_card("after", "--host", "null")
    with foreign:
        # It comes last: by then, WirePlumber has seen the others.
        wait_taken(server, foreign.longname)
        assert not has_taken(server, OURS.format("before"))
        assert not has_taken(server, OURS.format("after"))
        server.stop()


def test_the_rule_of_udev_hides_our_cards_alone(server, make_card, foreign, udev_rule):
    make_card("plain", "--host", "null")
    server.start()
    # Without a rule, a card of ours is taken, and that is the loop.
    wait_taken(server, OURS.format("plain"))
    udev_rule()
    make_card("after", "--host", "null")
    with foreign:
        wait_taken(server, foreign.longname)
        assert not has_taken(server, OURS.format("after"))
        server.stop()
