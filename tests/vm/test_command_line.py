# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The commands as a user types them, and what ALSA shows of a card."""

import json
import pathlib
import re
import signal
import socket
import time

import alsa_tools
import pytest
import sounds
from card import CLASS, Card
from liar import Liar
from programs import FOLDER, Program, path_of, run, wait_until
from sounds import Layout

ADAPTER = path_of("virtio-loopback")


class EphemeralCard(Card):
    """It goes with its adapter."""

    options = ["--ephemeral"]


@pytest.fixture
def quiet_card(make_card):
    return make_card("music", "--host", "null")


@pytest.mark.core
def test_alsa_shows_the_card_by_its_name(quiet_card):
    lines = run("aplay", "-l").stdout
    assert re.search(r"^card \d+: music \[VirtIO SoundCard\], device 0:", lines, re.MULTILINE), lines
    assert re.search(r"^hw:CARD=music,DEV=0$", run("aplay", "-L").stdout, re.MULTILINE)
    alsa_tools.play("hw:music", sounds.noise(Layout(), 4800), period=480, buffer=1920)
    alsa_tools.play("plughw:music", sounds.noise(Layout("S16_LE", 2, 22050), 2205))


@pytest.mark.core
def test_list_status_and_destroy(quiet_card):
    table = run(ADAPTER, "list").stdout
    assert re.search(r"music\s+sound \(25\)\s+live\s+virtio_snd\s+\d+ \(hw:music\)\s+attached", table), table
    (listed,) = json.loads(run(ADAPTER, "list", "--json").stdout)
    assert (listed["name"], listed["device_id"], listed["state"]) == ("music", 25, "live")
    assert (listed["driver"], listed["alsa_card"]["id"], listed["attached"]) == ("virtio_snd", "music", True)
    assert {"kicks", "calls", "zero_copy_pages", "request_timeouts"} <= listed["counters"].keys()

    status = run(ADAPTER, "status", "music").stdout
    for text in ("virtio_snd", "hw:music", "live", "kicks", "mapped in place"):
        assert text in status
    assert json.loads(run(ADAPTER, "status", "music", "--json").stdout)["name"] == "music"

    quiet_card.destroy()
    assert json.loads(run(ADAPTER, "list", "--json").stdout) == []
    assert "no loopback devices" in run(ADAPTER, "list").stdout
    assert "music" not in run("aplay", "-l", check=False).stdout


def complain(*arguments):
    """The one line that a command which fails says."""
    result = run(ADAPTER, *arguments, check=False)
    assert result.returncode == 1, result
    assert result.stdout == ""
    return result.stderr


def test_errors_say_what_to_do(quiet_card):
    for command in ("status", "destroy"):
        assert "no device" in complain(command, "absent").lower()
        assert "absent" in complain(command, "absent")
    assert run(ADAPTER, "run", "--name", "music", check=False).returncode == 2
    assert run(ADAPTER, "run", "--name", "a/b", "--socket", "/x", check=False).returncode == 2
    # The name has an adapter already.
    taken = complain("run", "--name", "music", "--socket", quiet_card.socket)
    assert "music" in taken
    assert quiet_card.state() == "live"


def test_nobody_listens_on_the_socket():
    said = complain("run", "--name", "lonely", "--socket", FOLDER / "nobody")
    assert "nobody listens on" in said
    assert "vhost-user-sound --socket-path" in said
    assert not (CLASS / "lonely").exists()


@pytest.mark.core
def test_run_starts_a_command_and_ends_it(tmp_path):
    """run -- COMMAND: the device process comes with the adapter and goes with it; the device stays."""
    adapter = Program(ADAPTER, "run", "--name", "music", "--", path_of("vhost-user-sound"), "--host", "null")
    wait_for_card("music")
    (child,) = children(adapter.pid)
    alsa_tools.play("hw:music", sounds.noise(Layout(), 4800), period=480, buffer=1920)
    adapter.send(signal.SIGTERM)
    assert adapter.wait() == 0, adapter.output()
    wait_until(lambda: not alive(child), "the device process to end")
    in_flight = pathlib.Path("/run/virtio-loopback/music.inflight")
    assert (CLASS / "music").exists() and in_flight.exists()
    run(ADAPTER, "destroy", "music")
    assert not (CLASS / "music").exists() and not in_flight.exists()


def test_a_killed_run_takes_its_command_along():
    adapter = Program(ADAPTER, "run", "--name", "music", "--", path_of("vhost-user-sound"), "--host", "null")
    wait_for_card("music")
    (child,) = children(adapter.pid)
    adapter.kill()
    wait_until(lambda: not alive(child), "the device process to end")
    run(ADAPTER, "destroy", "music")


def test_an_ephemeral_device_goes_with_its_adapter(quiet_card):
    adapter = Program(
        ADAPTER, "run", "--name", "short", "--ephemeral", "--", path_of("vhost-user-sound"), "--host", "null"
    )
    wait_for_card("short")
    adapter.send(signal.SIGINT)
    assert adapter.wait() == 0, adapter.output()
    assert not (CLASS / "short").exists()


def test_a_terminal_that_goes_takes_an_ephemeral_device_along():
    command = [ADAPTER, "run", "--name", "short", "--ephemeral", "--", path_of("vhost-user-sound"), "--host", "null"]
    adapter = Program(*command)
    wait_for_card("short")
    adapter.send(signal.SIGHUP)
    assert adapter.wait() == 0, adapter.output()
    assert not (CLASS / "short").exists()
    # Of one that is to outlive its terminal.
    adapter = Program("nohup", *command)
    wait_for_card("short")
    adapter.send(signal.SIGHUP)
    time.sleep(1)
    assert Card("short").state() == "live" and adapter.running(), adapter.output()
    assert adapter.stop() == 0, adapter.output()
    assert not (CLASS / "short").exists()


def test_an_ephemeral_device_that_another_adapter_serves_is_left_to_it(make_card):
    """The first one waits for its device process, which has gone, when the second one takes the card over."""
    first = make_card("music", "--host", "null", kind=EphemeralCard)
    first.device.kill()
    first.device = None
    wait_until(lambda: "waits for another one" in first.adapter.output(), "a word about it")
    sound = Program(path_of("vhost-user-sound"), "--socket-path", FOLDER / "second.socket", "--host", "null")
    second = Program(ADAPTER, "run", "--name", "music", "--socket", FOLDER / "second.socket")
    wait_until(first.ready, "the card")
    player = alsa_tools.Player("hw:music", sounds.noise(Layout(), 3 * 48000))
    assert first.adapter.stop() == 0, first.adapter.output()
    player.finish()
    assert first.ready(), second.output()
    run(ADAPTER, "destroy", "music")
    assert second.wait() == 0, second.output()
    assert sound.stop() == 0, sound.output()


def test_an_ephemeral_device_that_stays_open_is_waited_for_once():
    """5 s; systemd kills an adapter that takes 10 (TimeoutStopSec of its unit)."""
    adapter = Program(
        ADAPTER, "run", "--name", "short", "--ephemeral", "--", path_of("vhost-user-sound"), "--host", "null"
    )
    wait_for_card("short")
    number = Card("short").id_file().parent.name.removeprefix("card")
    with open(f"/dev/snd/controlC{number}"):
        since = time.monotonic()
        adapter.send(signal.SIGTERM)
        assert adapter.wait(20) == 0, adapter.output()
        assert time.monotonic() - since < 8
        assert "an application still has short open" in adapter.output()
    wait_until(lambda: not (CLASS / "short").exists(), "the device to be gone")


def test_a_card_that_is_held_comes_back_when_its_holder_lets_go():
    command = [ADAPTER, "run", "--name", "short", "--ephemeral", "--", path_of("vhost-user-sound"), "--host", "null"]
    before = Program(*command)
    wait_for_card("short")
    number = Card("short").id_file().parent.name.removeprefix("card")
    player = alsa_tools.Player("hw:short", sounds.noise(Layout(), 20 * 48000))
    with open(f"/dev/snd/controlC{number}"):
        status = pathlib.Path(f"/proc/asound/card{number}/pcm0p/sub0/status")
        wait_until(lambda: "RUNNING" in status.read_text(), "the sound")
        before.send(signal.SIGTERM)
        assert before.wait(20) == 0, before.output()
        assert player.wait() == 1 and "write error" in player.output(), player.output()
        # One of another type would have to wait as well.
        others = [Program(*command), Program(ADAPTER, "run", "--name", "short", "--device", "rng", "--", "/bin/false")]
        wait_until(lambda: all("being destroyed" in other.output() for other in others), "a word about it")
        assert others[1].stop() == 0, others[1].output()
        time.sleep(3)
        assert others[0].running(), others[0].output()
    wait_for_card("short")
    assert others[0].output().count("an application still has it open") == 1, others[0].output()
    alsa_tools.play("hw:short", sounds.noise(Layout(), 4800))
    assert others[0].stop() == 0, others[0].output()


def test_an_adapter_that_finds_no_room_in_a_queue_ends_when_it_is_told():
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        path = FOLDER / "full.socket"
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        adapter = Program(ADAPTER, "run", "--name", "odd", "--socket", path)
        says = f"cannot connect to {path}, and tries on: Resource temporarily unavailable"
        wait_until(lambda: says in adapter.output(), "a word about it")
        assert adapter.stop() == 0, adapter.output()


def test_a_device_without_a_driver_is_told():
    """Device type 62 has no driver in any kernel; a sound device process lends its queues."""
    options = ["--device", "62", "--queues", "4", "--config-size", "12"]
    adapter = Program(
        ADAPTER, "run", "--name", "odd", "--ephemeral", *options, "--", path_of("vhost-user-sound"), "--host", "null"
    )
    said = wait_until(lambda: "driver" in adapter.output() and adapter.output(), "a word about the driver")
    assert "no driver" in said
    adapter.send(signal.SIGTERM)
    assert adapter.wait() == 0, adapter.output()


@pytest.mark.kernel_may_say(r"virtio_snd|virtio\d+")
def test_a_card_that_its_driver_has_given_up_is_told():
    """A device process that looks at no queue: virtio_snd asks in vain what streams there are."""
    device = Liar(FOLDER / "odd.socket", None, None)
    adapter = Program(ADAPTER, "run", "--name", "odd", "--ephemeral", "--socket", device.path)
    says = "no driver in this kernel has taken virtio device 25 (sound): virtio_snd is loaded and has not taken it"
    wait_until(lambda: says in adapter.output(), "a word about it", 20)
    assert "virtio_snd is loaded and has not taken it" in run(ADAPTER, "status", "odd").stdout
    findings = json.loads(run(ADAPTER, "doctor", "--json", check=False).stdout)
    (state,) = [finding for finding in findings if (finding.get("card"), finding["check"]) == ("odd", "state")]
    assert state["verdict"] == "wrong" and state["mend"] == "dmesg | grep -i virtio", state
    assert adapter.stop() == 0, adapter.output()
    device.close()


def wait_for_card(name):
    card = Card(name)
    wait_until(lambda: card.state() == "live" and card.alsa_id() == name and card.node_names(), f"the card {name}")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
