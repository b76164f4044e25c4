# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""virtio-loopback doctor: one thing after the other is broken, named, and mended by the command it gives."""

import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess

import pytest
from machine import DRIVER, OPTIONS, RULES
from programs import FOLDER, Program, path_of, run, wait_until

RELEASE = platform.release()
PREFIX = pathlib.Path("/run/virtio-loopback-doctor")
PROGRAM = PREFIX / "bin" / "virtio-loopback"
SHARE = PREFIX / "share" / "doc" / "virtio-loopback"
# Folders that the tests change, and that are as before afterwards. What is in them stays ...
CHANGED = ["/etc", "/usr/local"]
# ... or is copied into the guest's memory, since each look at a file of the host takes long ...
COPIED = ["/usr/lib/udev/rules.d", "/usr/lib/modprobe.d"]
# ... or is of no use.
MODULES = f"/lib/modules/{RELEASE}"
WIREPLUMBER = DRIVER.parent / "examples" / "wireplumber"
COMMANDS = pathlib.Path("/run/virtio-loopback")
PERIOD = "/sys/module/virtio_snd/parameters/pcm_period_ms_min"

pytestmark = pytest.mark.time_limit(240)


@pytest.fixture(scope="module")
def folders():
    """The program where it sees the guest as it is, and folders that can be written."""
    PROGRAM.parent.mkdir(parents=True)
    shutil.copy(path_of("virtio-loopback"), PROGRAM)
    for rules in RULES:
        copy(rules, SHARE / "udev" / rules.name)
    copy(OPTIONS, SHARE / "modprobe.d" / "virtio-loopback.conf")
    shutil.copytree(WIREPLUMBER, SHARE / "wireplumber")
    COMMANDS.mkdir(exist_ok=True)
    run("modprobe", "overlay")
    mounted = [change(folder, number) for number, folder in enumerate(CHANGED)]
    mounted += [replace(folder, f"copy{number}", shutil.copytree) for number, folder in enumerate(COPIED)]
    mounted.append(replace(MODULES, "modules", lambda _, target: target.mkdir()))
    yield
    for folder in reversed(mounted):
        run("umount", "--lazy", folder)
    shell("udevadm control --reload")


def change(folder, number):
    upper, work = PREFIX / f"upper{number}", PREFIX / f"work{number}"
    upper.mkdir()
    work.mkdir()
    run("mount", "-t", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", "overlay", folder)
    return folder


def replace(folder, name, fill):
    real, new = os.path.realpath(folder), PREFIX / name
    fill(real, new)
    run("mount", "--bind", new, real)
    return real


@pytest.fixture
def right(folders):
    """A machine on which everything is right: what the tests break."""
    shell("getent group virtio-loopback || groupadd --system virtio-loopback")
    for command in (f"echo 1 > {PERIOD}", "echo virtio_loopback > /etc/modules-load.d/virtio-loopback.conf"):
        shell(command)
    for name in ("60-virtio-loopback.rules", "91-virtio-loopback.rules"):
        copy(SHARE / "udev" / name, pathlib.Path("/etc/udev/rules.d", name))
    copy(OPTIONS, pathlib.Path("/etc/modprobe.d/virtio-loopback.conf"))
    pathlib.Path("/usr/local/bin").mkdir(exist_ok=True)
    udev_again()


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def udev_again():
    shell("udevadm control --reload && udevadm trigger --action=add /sys/class/misc/virtio-loopback && udevadm settle")


def shell(command):
    """As a user types it, in the guest's own root: programs that run from memory see another one."""
    run("sh", "-c", command)


def doctor(*arguments, user=None):
    identity = {}
    if user:
        ids = run("id", "-u", user).stdout, run("id", "-g", user).stdout
        groups = [int(group) for group in run("id", "-G", user).stdout.split()]
        identity = {"user": int(ids[0]), "group": int(ids[1]), "extra_groups": groups}
    return subprocess.run([PROGRAM, "doctor", *arguments], capture_output=True, text=True, timeout=120, **identity)


def examine(user=None):
    """Findings by the name of the check, or CARD: CHECK; the exit status is 1 where one is wrong."""
    result = doctor("--json", user=user)
    findings = json.loads(result.stdout)
    assert result.returncode == int(any(finding["verdict"] == "wrong" for finding in findings)), result
    return {": ".join(filter(None, [finding.get("card"), finding["check"]])): finding for finding in findings}


def faults():
    """Everything that is not right."""
    findings = examine()
    return {name: finding for name, finding in findings.items() if finding["verdict"] in ("warn", "wrong")}


def is_named(check, verdict, text, user=None):
    """The finding, which must say this."""
    finding = examine(user)[check]
    assert finding["verdict"] == verdict and text in finding["text"], finding
    return finding


def is_mended(check, verdict, text, user=None):
    """The fault is named, and the command that is given for it mends it."""
    finding = is_named(check, verdict, text, user)
    assert finding.get("as_root"), finding
    shell(f"({finding['mend']}) && udevadm settle")
    after = examine(user)[check]
    assert after["verdict"] == "ok", after


def test_a_report_for_people(right):
    found = faults()
    # A sound server of the host's, if there is one, is not told of our cards.
    assert found.keys() <= {"wireplumber"}, json.dumps(found, indent=1)
    result = doctor()
    assert result.returncode == 0, result
    assert "ok     module" in result.stdout and "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1].endswith(" 0 wrong")


def test_a_module_that_is_not_loaded(right):
    run("rmmod", "virtio_loopback")
    is_named("module", "wrong", "is not installed")
    module = pathlib.Path(MODULES, "virtio_loopback.ko")
    shutil.copy(os.environ["VIRTIO_LOOPBACK_MODULE"], module)
    shell(f"depmod {RELEASE}")
    result = doctor()
    assert result.returncode == 1
    assert "mend: modprobe virtio_loopback" in result.stdout
    assert "start with the first that is wrong" in result.stdout
    is_mended("module", "wrong", "is not loaded")
    module.unlink()


def test_nothing_loads_it_at_boot(right):
    pathlib.Path("/etc/modules-load.d/virtio-loopback.conf").unlink()
    is_mended("boot", "warn", "at boot")


def test_rights(right):
    shell("id ann || useradd --no-create-home ann")
    is_named("access", "wrong", "ann may not make cards", user="ann")
    assert "mend: sudo usermod -aG virtio-loopback ann" in doctor(user="ann").stdout
    is_mended("access", "wrong", "not a member", user="ann")
    os.chmod("/dev/virtio-loopback", 0o600)
    os.chown("/dev/virtio-loopback", 0, 0)
    is_mended("access", "warn", "udev's rule has not acted")
    os.chown("/dev/virtio-loopback", 0, 0)
    is_mended("access", "wrong", "udev's rule has not acted", user="ann")
    run("groupdel", "virtio-loopback")
    is_mended("access", "warn", "no group")


def test_rules_of_udev(right):
    for check, verdict, name in (("udev", "wrong", RULES[0].name), ("volume", "warn", RULES[1].name)):
        hidden = pathlib.Path("/run/udev/rules.d", name)
        pathlib.Path("/etc/udev/rules.d", name).unlink()
        hidden.rename(hidden.with_suffix(".away"))
        try:
            is_mended(check, verdict, "")
        finally:
            hidden.with_suffix(".away").rename(hidden)


def test_short_periods(right):
    pathlib.Path(PERIOD).write_text("10")
    is_mended("period", "warn", "before its options were there")
    hidden = pathlib.Path("/run/modprobe.d/virtio-loopback.conf")
    hidden.rename(hidden.with_suffix(".away"))
    pathlib.Path("/etc/modprobe.d/virtio-loopback.conf").unlink()
    pathlib.Path(PERIOD).write_text("10")
    try:
        is_mended("period", "warn", "the driver's own limit")
        assert pathlib.Path("/etc/modprobe.d/virtio-loopback.conf").exists()
    finally:
        hidden.with_suffix(".away").rename(hidden)


def test_real_time_of_a_user(right):
    shell("id ann || useradd --no-create-home ann")
    pathlib.Path("/etc/security/limits.d").mkdir(parents=True, exist_ok=True)
    finding = is_named("real-time", "warn", "next login", user="ann")
    shell(finding["mend"])
    granted = pathlib.Path("/etc/security/limits.d/virtio-loopback.conf").read_text()
    assert granted == "@virtio-loopback - rtprio 95\n@virtio-loopback - memlock unlimited\n"
    is_named("real-time", "ok", "root")


def test_wireplumber_takes_the_cards(right, make_card):
    """A program of its name that has the card open; rules for the real one have tests of their own."""
    card = make_card("music", "--host", "null")
    shutil.copy(shutil.which("sleep"), "/usr/local/bin/wireplumber")
    is_mended("wireplumber", "warn", "takes the cards for real ones")
    number = card.status()["alsa_card"]["number"]
    with open(f"/dev/snd/controlC{number}") as control:
        taker = subprocess.Popen(["/usr/local/bin/wireplumber", "100"], stdin=control)
        wait_until(lambda: "warn" in examine()["music: sound server"]["verdict"], "the taker to be seen")
        is_named("music: sound server", "warn", f"process {taker.pid}")
        taker.kill()
        taker.wait()
    is_named("music: sound server", "ok", "no WirePlumber")


@pytest.fixture
def told(make_card, folders):
    return lambda *host: make_card("music", *host, "--command-socket", COMMANDS / "music.commands")


def test_a_card_that_is_well(right, told):
    card = told("--host", "null")
    findings = {name: finding for name, finding in examine().items() if name.startswith("music: ")}
    assert findings.keys() == {f"music: {check}" for check in
                               ("state", "adapter", "process", "host", "sound server", "real-time")}
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}, findings
    assert str(card.device.pid) in findings["music: process"]["text"]
    assert "live, hw:music" in findings["music: state"]["text"]


def test_a_process_that_hangs_and_one_that_is_gone(right, told):
    card = told("--host", "null")
    card.device.send(signal.SIGSTOP)
    is_named("music: process", "wrong", "no answer within")
    card.device.send(signal.SIGCONT)
    card.device.kill()
    wait_until(lambda: card.state() == "quiesced", "the loss of the device process")
    is_named("music: state", "wrong", "no process serves it")
    is_named("music: process", "wrong", "nobody listens")
    card.start_device()
    card.wait_ready()
    assert examine()["music: state"]["verdict"] == "ok"


def test_a_card_without_an_adapter(right):
    """How somebody has started it by hand is not known whole."""
    socket = COMMANDS / "music.sock"
    command = [path_of("vhost-user-sound"), "--host", "null", "--socket-path", socket]
    Program(*command, "--command-socket", COMMANDS / "music.commands")
    wait_until(socket.exists, "the socket")
    adapter = [PROGRAM, "run", "--name", "music", "--socket", socket]
    first = Program(*adapter)
    wait_until(lambda: examine().get("music: state", {}).get("verdict") == "ok", "the card")
    first.stop()
    finding = is_named("music: adapter", "warn", "start it again as before: virtio-loopback run --name music ...")
    assert "mend" not in finding and not finding.get("as_root")
    second = Program(*adapter)
    wait_until(lambda: examine()["music: adapter"]["verdict"] == "ok", "the adapter")
    run(PROGRAM, "destroy", "music")
    second.wait()


def test_a_card_file_without_a_card(right):
    folder = pathlib.Path("/etc/virtio-loopback")
    folder.mkdir(exist_ok=True)
    (folder / "phone.toml").write_text("")
    try:
        finding = is_named("phone: state", "warn", "no card")
        assert finding["mend"] == "systemctl restart virtio-loopback@phone"
    finally:
        (folder / "phone.toml").unlink()


def test_a_sound_device_without_real_time(right, told):
    told("--host", "null", "--rt-priority", "0")
    finding = is_named("music: real-time", "warn", "no real-time priority")
    shell(finding["mend"])
    is_named("music: real-time", "warn", "priority 50, but its memory may be swapped")


def test_a_real_card_that_is_not_there(right, told):
    told("--host", "alsa", "--playback-device", "hw:nowhere")
    is_named("music: host", "warn", "busy or away")


def test_a_guest_without_the_programs_share_still_says_what_to_do(right):
    away = SHARE.with_name("away")
    SHARE.rename(away)
    pathlib.Path("/etc/udev/rules.d", RULES[0].name).unlink()
    hidden = pathlib.Path("/run/udev/rules.d", RULES[0].name)
    hidden.rename(FOLDER / "away")
    try:
        assert is_named("udev", "wrong", "no udev rule")["mend"].startswith("make install")
    finally:
        (FOLDER / "away").rename(hidden)
        away.rename(SHARE)
