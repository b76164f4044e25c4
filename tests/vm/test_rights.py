# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Who may open the control file, make devices, take them over and destroy them, and how many."""

import ctypes
import errno
import grp
import os
import pathlib
import re
import stat
import struct
import subprocess
import tempfile

import device
import programs
import pytest
from device import RNG, Control, sysfs, wait_until

CLONE_NEWUSER, PR_SET_DUMPABLE = 0x10000000, 4
ALICE, BOB = 4321, 4322
GROUP = "virtio-loopback"
GROUP_ID = 777
SOUND = {"device_id": 25, "queue_sizes": [64] * 4, "config": struct.pack("<III", 0, 1, 0)}
# The driver of a card whose maker has gone at once says that nobody answers.
pytestmark = [pytest.mark.kernel_may_say(r"virtio_snd|virtio\d+"), pytest.mark.time_limit(300)]
PARAMETERS = pathlib.Path("/sys/module/virtio_loopback/parameters")


@pytest.fixture(autouse=True)
def group():
    """The group, for as long as the guest lives, and the control file in it. That the udev rule puts it
    there is seen in tests/systemd, whose adapters are members."""
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        copy = pathlib.Path("/run/group-of-the-tests")
        copy.write_text(pathlib.Path("/etc/group").read_text() + f"{GROUP}:x:{GROUP_ID}:\n")
        subprocess.run(["mount", "--bind", str(copy), "/etc/group"], check=True)
    programs.run("udevadm", "settle")
    os.chown(device.PATH, 0, group_id())
    yield
    device.destroy_all()


@pytest.fixture
def parameter():
    """Sets parameters of the module for one test."""
    before = {}

    def set_to(name, value):
        before[name] = (PARAMETERS / name).read_text()
        (PARAMETERS / name).write_text(str(value))

    yield set_to
    for name, value in before.items():
        (PARAMETERS / name).write_text(value)


def as_user(uid, *groups):
    """setpriv with a user's rights and no others, before a command."""
    more = ",".join(map(str, groups))
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={more}" if more else "--clear-groups"]


def errno_of(uid, action, *groups, become=lambda: None):
    """What `action()` fails with when a user does it, who has done `become()` before; 0: it did not."""
    child = os.fork()
    if child == 0:
        number = 255
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            become()
            number = errno_in(action)
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def errno_in(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def become_root_of_a_namespace():
    """What `unshare --user --map-root-user` does."""
    uid, gid, libc = os.getuid(), os.getgid(), ctypes.CDLL(None, use_errno=True)
    # Who was root keeps his files in /proc to root.
    assert libc.prctl(PR_SET_DUMPABLE, 1) == 0
    assert libc.unshare(CLONE_NEWUSER) == 0, os.strerror(ctypes.get_errno())
    for name, line in ("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"):
        pathlib.Path("/proc/self", name).write_text(line)
    assert (os.getuid(), os.getgid()) == (0, 0)


def group_id():
    return grp.getgrnam(GROUP).gr_gid


def member(uid, action, **keywords):
    return errno_of(uid, action, group_id(), **keywords)


def root_of_a_namespace(uid, action, *groups):
    return errno_of(uid, action, *groups, become=become_root_of_a_namespace)


def create(name="box", **fields):
    Control().create(name, **{**SOUND, **fields})


def test_the_control_file_is_for_root_and_the_group():
    status = os.stat(device.PATH)
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o660)
    assert errno_of(ALICE, Control) == errno.EACCES
    assert member(ALICE, Control) == 0


def test_a_stranger_is_told_what_to_do():
    programs_path = programs.path_of("virtio-loopback")
    result = subprocess.run([*as_user(ALICE), programs_path, "destroy", "box"], capture_output=True, text=True)
    assert result.returncode != 0
    assert "group virtio-loopback" in result.stderr


@pytest.fixture
def socket():
    """A path at which anybody may make a socket."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        os.chmod(folder, 0o777)
        yield pathlib.Path(folder) / "music.socket"


def test_a_member_makes_a_card_and_it_plays(socket):
    """The adapter, and the device process with it, without any privilege."""
    user = as_user(ALICE, group_id())
    sound = programs.Program(*user, programs.path_of("vhost-user-sound"), "--socket-path", socket, "--host", "null")
    wait_until(socket.exists, what="the socket")
    adapter = programs.Program(
        *user, programs.path_of("virtio-loopback"), "run", "--name", "music", "--socket", socket
    )
    try:
        wait_until(lambda: os.path.exists("/proc/asound/music") or not adapter.running(), what="the card")
        assert adapter.running(), adapter.output()
        assert sysfs("music", "owner") == str(ALICE)
        programs.run("aplay", "-D", "hw:music", "-f", "S16_LE", "-r", "48000", "-c", "2", "-s", "4800", "/dev/zero")
    finally:
        with Control() as control:
            control.destroy("music")
            wait_until(lambda: control.list()[1] == 0, what="the card to be gone")
        adapter.kill()
        sound.kill()


def test_a_member_makes_sound_cards_alone():
    for kind in (device.NET, RNG, device.INPUT, 2, 0xFFFF):
        assert member(ALICE, lambda kind=kind: create(device_id=kind)) == errno.EPERM
    assert member(ALICE, create) == 0


@pytest.mark.parametrize("kind", [5, 23, 24, 27])
def test_nobody_makes_a_device_of_physical_memory(kind):
    with Control() as control, pytest.raises(OSError) as error:
        control.create("box", device_id=kind)
    assert error.value.errno == errno.EOPNOTSUPP


def test_a_device_is_its_owners():
    """Another member of the group may look, but neither take it over nor destroy it."""
    assert member(ALICE, create) == 0
    attach, destroy = (lambda: Control().attach("box")), (lambda: Control().destroy("box"))
    assert member(BOB, lambda: Control().list()) == 0
    assert member(BOB, attach) == errno.EPERM
    assert member(BOB, destroy) == errno.EPERM
    assert errno_of(BOB, destroy) == errno.EACCES
    assert sysfs("box", "state") != "dying"
    assert member(ALICE, attach) == 0
    with Control() as control:  # root may all
        assert control.list()[0][0].owner == ALICE
        control.attach("box")
    assert member(ALICE, destroy) == 0
    with Control() as control:
        wait_until(lambda: control.list()[1] == 0, what="the device to be gone")


def test_a_roots_device_is_not_the_groups():
    with Control() as control:
        control.create("box", **SOUND)
    assert member(ALICE, lambda: Control().attach("box")) == errno.EPERM
    assert member(ALICE, lambda: Control().destroy("box")) == errno.EPERM


def test_the_file_carries_the_rights_of_who_opened_it():
    """One that root has opened, in the hands of a user, is still root's; and the other way round."""
    with Control() as control:
        assert errno_of(ALICE, lambda: control.create("box", device_id=device.NET)) == 0
        assert sysfs("box", "owner") == "0"


def test_root_of_a_namespace_is_a_user():
    """Who is nobody's member and makes himself root of a user namespace, where he has all capabilities."""
    for uid in (ALICE, BOB):
        assert errno_of(uid, lambda: os.chroot("/")) == errno.EPERM
        assert root_of_a_namespace(uid, lambda: os.chroot("/")) == 0, "he has no capability"
    assert member(ALICE, create) == 0
    for uid in (ALICE, BOB):
        for action in (Control, lambda: Control().attach("box"), lambda: Control().destroy("box")):
            assert root_of_a_namespace(uid, action) == errno.EACCES
        assert root_of_a_namespace(uid, lambda: os.chmod(device.PATH, 0o666)) == errno.EPERM
    assert sysfs("box", "state") != "dying"


def test_a_member_who_is_root_of_a_namespace_is_a_member(parameter):
    """Neither more types, nor others' devices, nor more of them than another member."""

    def mighty_member(uid, action):
        return root_of_a_namespace(uid, action, group_id())

    with Control() as control:
        control.create("roots", **SOUND)
    assert member(BOB, lambda: create("bobs")) == 0
    for kind in (device.NET, RNG, device.INPUT, 2, 0xFFFF):
        assert mighty_member(ALICE, lambda kind=kind: create(device_id=kind)) == errno.EPERM
    for name in ("roots", "bobs"):
        assert mighty_member(ALICE, lambda name=name: Control().attach(name)) == errno.EPERM
        assert mighty_member(ALICE, lambda name=name: Control().destroy(name)) == errno.EPERM
        assert sysfs(name, "state") != "dying"
    parameter("max_user_devices", 1)
    assert mighty_member(ALICE, create) == 0
    assert sysfs("box", "owner") == str(ALICE)
    assert mighty_member(ALICE, lambda: create("more")) == errno.EDQUOT
    assert mighty_member(ALICE, lambda: Control().destroy("box")) == 0


def test_a_file_that_a_member_has_opened_is_no_mightier_in_a_namespace():
    files = []

    def open_it_before():
        files.append(Control())
        become_root_of_a_namespace()

    for kind, says in (device.NET, errno.EPERM), (RNG, errno.EPERM), (SOUND["device_id"], 0):
        fields = {**SOUND, "device_id": kind}
        assert member(ALICE, lambda: files[0].create("box", **fields), become=open_it_before) == says


@pytest.mark.parametrize("name, value", [("max_user_devices", "16"), ("max_user_mib", "256"), ("user_types", "25")])
def test_the_defaults_are_those_that_are_described(name, value):
    described = programs.run("modinfo", "-p", os.environ["VIRTIO_LOOPBACK_MODULE"]).stdout
    (default,) = re.findall(rf"^{name}:.*\(default (\d+)\b", described, re.MULTILINE)
    assert (default, (PARAMETERS / name).read_text().strip()) == (value, value)


def test_a_user_has_no_more_devices_than_allowed(parameter):
    parameter("max_user_devices", 2)

    def three():
        for number in range(3):
            create(f"box{number}")

    assert member(ALICE, three) == errno.EDQUOT
    assert member(BOB, lambda: create("bobs")) == 0
    with Control() as control:
        assert control.list()[1] == 3
        control.create("roots", **SOUND)
    # One that is destroyed counts for as long as somebody has its memory.
    assert member(ALICE, lambda: Control().destroy("box0")) == 0
    wait_until(lambda: member(ALICE, lambda: create("again")) == 0, what="room for another one")


def test_memory_that_is_kept_is_counted(parameter):
    parameter("max_user_devices", 1)

    def keep_and_create():
        control = Control()
        control.create("box", **SOUND)
        control.memory()
        control.destroy("box")
        control.close()
        wait_until(lambda: not os.path.exists(f"{device.SYSFS}/box"), what="the device to be gone")
        create("again")

    assert member(ALICE, keep_and_create) == errno.EDQUOT
    wait_until(lambda: member(ALICE, create) == 0, what="the memory to be given back")


def test_a_user_has_no_more_memory_than_allowed(parameter):
    parameter("max_user_mib", 3)
    assert member(ALICE, lambda: create(bounce_size=4 << 20)) == errno.EDQUOT
    assert member(ALICE, lambda: create(bounce_size=2 << 20)) == 0
    assert member(ALICE, lambda: create("more", bounce_size=2 << 20)) == errno.EDQUOT
    assert member(ALICE, lambda: create("little", bounce_size=1 << 20)) == 0
    assert member(ALICE, lambda: create("zero", flags=device.F_ZERO_COPY, bounce_size=4096)) == errno.EDQUOT


def test_the_adapter_says_which_limit(parameter, socket):
    parameter("max_user_devices", 0)
    user = as_user(ALICE, group_id())
    sound = programs.Program(*user, programs.path_of("vhost-user-sound"), "--socket-path", socket, "--host", "null")
    wait_until(socket.exists, what="the socket")
    result = subprocess.run(
        [*user, programs.path_of("virtio-loopback"), "run", "--name", "music", "--socket", str(socket)],
        capture_output=True, text=True, timeout=30,
    )
    sound.kill()
    assert result.returncode != 0
    assert "max_user_devices" in result.stderr


