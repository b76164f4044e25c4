# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""examples/desktop-setup on a desktop: a user, his services, his PipeWire and WirePlumber."""

import hashlib
import os
import pathlib
import pwd
import shutil

import pytest
from graph import Graph
from machine import cards, run, systemctl, wait_until

USER = "alice"
HOME = pathlib.Path(pwd.getpwnam(USER).pw_dir)
SETUP = "/usr/share/doc/virtio-loopback/desktop-setup"
CARDS = {"music", "navigation", "phone"}
# What others write while it is set up: the servers' memory, passwd's backups.
OTHERS = [f"{HOME}/.local/state/wireplumber", f"{HOME}/.cache", "/etc/group-", "/etc/gshadow-"]


class Desktop(Graph):
    """What the user does in his session."""

    def __init__(self):
        uid = pwd.getpwnam(USER).pw_uid
        super().__init__("runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", f"HOME={HOME}",
                         f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus")
        self.manager = f"user@{uid}.service"

    def systemctl(self, *arguments):
        return self.run("systemctl", "--user", *arguments, check=False).stdout.strip()

    def unit_files(self):
        """The units of his cards that run, or have failed."""
        units = ("virtio-loopback@*", "vhost-user-sound@*")
        listed = self.systemctl("list-units", "--all", "--plain", "--no-legend", *units)
        return [line for line in listed.splitlines() if " active " in line or " failed " in line]


def files():
    """Every file that may be changed, and what is in it."""
    found = {}
    for folder in ("/etc", HOME, "/usr/local", "/var/lib/systemd/linger"):
        for path in pathlib.Path(folder).rglob("*"):
            if any(str(path).startswith(other) for other in OTHERS):
                continue
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def desktop():
    systemctl("stop", "virtio-loopback.target")
    wait_until(lambda: not CARDS & cards(), "the end of the system's cards")
    desktop = Desktop()
    run("loginctl", "enable-linger", USER)
    wait_until(lambda: desktop.has_ports("speakers"), "the user's PipeWire", 60)
    desktop.before = files()
    return desktop


def test_a_dry_run_changes_nothing(desktop):
    said = desktop.run(SETUP, "--dry-run", "--roles").stdout
    assert "would run: sudo usermod -aG virtio-loopback alice" in said
    assert files() == desktop.before


def test_it_sets_up_what_a_new_login_starts(desktop):
    said = desktop.run(SETUP, "--roles").stdout
    assert "log out and in again" in said, said
    systemctl("restart", desktop.manager)
    wait_until(lambda: cards() >= CARDS, "the cards of the login", 60)
    status = desktop.run("virtio-loopback", "status").stdout
    assert all(card in status for card in CARDS), status


def test_once_more_it_leaves_all_as_it_is(desktop):
    before = files()
    said = desktop.run(SETUP, "--roles").stdout
    assert "writing" not in said and "log out" not in said, said
    assert files() == before and cards() >= CARDS


def test_its_cards_are_no_sinks_of_the_users_pipewire(desktop):
    nodes = desktop.run("pw-cli", "list-objects", "Node").stdout
    assert "speakers" in nodes and "virtio" not in nodes.lower(), nodes


@pytest.mark.parametrize(("card", "seed"), [("music", 31), ("navigation", 32), ("phone", 33)])
def test_sound_goes_to_the_users_pipewire(desktop, card, seed):
    desktop.plays(card, seed)


def test_what_the_user_has_changed_stays_and_names_are_for_all_cards(desktop):
    """Below a folder of its own: nothing runs there."""
    folder = HOME / "elsewhere"
    below, there = folder / HOME.relative_to("/"), [SETUP, "--root", str(folder)]
    desktop.run(*there, "--roles")
    card = below / ".config/virtio-loopback/music.toml"
    with card.open("a") as file:
        file.write("# mine\n")
    assert "left as it is: " in desktop.run(*there, "--cards", "music,loop").stdout
    names = (below / ".config/alsa/asoundrc").read_text()
    assert all(f"pcm.{name} " in names for name in ("loop", *CARDS)), names
    assert "changed since" in desktop.run(*there, "--undo").stdout
    assert [path for path in folder.rglob("*") if path.is_file()] == [card]
    shutil.rmtree(folder)


def test_undo_leaves_nothing(desktop):
    said = desktop.run(SETUP, "--undo").stdout
    assert "done" in said, said
    assert not CARDS & cards()
    assert desktop.unit_files() == []
    after = files()
    assert {path: after.get(path) for path in desktop.before} == desktop.before
    assert sorted(after.keys() - desktop.before.keys()) == []
    assert desktop.run(SETUP, "--undo").stdout.strip() == "desktop-setup: nothing to undo"


def test_no_unit_has_failed(desktop):
    assert systemctl("--failed", "--plain", "--no-legend").stdout == ""
    run("loginctl", "disable-linger", USER)
