# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""virtio-loopback status: all cards at once, in detail, and live on a terminal."""

import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import threading

import alsa_tools
import pytest
import sounds
import terminal
from programs import FOLDER, Program, path_of, run, wait_until
from sounds import Layout
from terminal import Terminal

ADAPTER = path_of("virtio-loopback")
COMMANDS = pathlib.Path("/run/virtio-loopback")


@pytest.fixture
def folder():
    COMMANDS.mkdir(exist_ok=True)
    return COMMANDS


@pytest.fixture
def make_told(make_card, folder):
    """Makes cards whose device process takes commands where status asks."""
    return lambda name: make_card(name, "--host", "null", "--command-socket", folder / f"{name}.commands")


@pytest.fixture
def on_terminal():
    terminals = []

    def start(*arguments, **keywords):
        terminals.append(Terminal(ADAPTER, *arguments, **keywords))
        return terminals[-1]

    yield start
    for one in terminals:
        one.close()


class Speaker:
    """Answers on the command socket of a card in the place of its device process."""

    def __init__(self, name, answer):
        self.path = COMMANDS / f"{name}.commands"
        self.path.unlink(missing_ok=True)
        self.answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                assert json.loads(client.recv(100)) == {"command": "status"}
                client.sendall(json.dumps(self.answer).encode() + b"\n")

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink()


def status(*arguments):
    return json.loads(run(ADAPTER, "status", "--json", *arguments).stdout)


def test_all_cards_are_shown_and_what_their_processes_say(make_told, make_card):
    music, phone = make_told("music"), make_card("phone", "--host", "null")
    player = alsa_tools.Player(music.pcm, sounds.noise(Layout(), 5 * 48000), period=480, buffer=1920)
    wait_until(lambda: status()[0]["device_process"]["answer"]["streams"][0]["state"] == "running", "the sound")
    cards = {card["name"]: card for card in status()}
    assert cards["music"]["device_process"]["process"] == music.device.pid
    assert cards["music"]["counters"]["restarts"] == 0
    assert "device_process" not in cards["phone"], "a process that takes no commands"
    lines = run(ADAPTER, "status").stdout.splitlines()
    assert lines[0].split() == "CARD STATE ROLE STREAM LEVEL RATE PERIOD DELAY XRUNS KICKS RESTARTS".split()
    assert re.match(r"music +live +\S+ +playback .* 48000 Hz .* 0 ", lines[1]), lines
    assert re.match(r" +\S+ +capture +idle ", lines[2]), lines
    assert re.match(r"phone +live +- ", lines[3]), lines
    detail = run(ADAPTER, "status", "music").stdout
    assert re.search(rf"^device process +process {music.device.pid}$", detail, re.MULTILINE), detail
    assert re.search(r"^stream +playback, null, running", detail, re.MULTILINE), detail
    player.finish()
    phone.kill_adapter()
    assert "phone: plays on without an adapter" in run(ADAPTER, "status").stdout


def test_a_restart_is_counted(make_told):
    card = make_told("music")
    card.device.kill()
    wait_until(lambda: card.state() == "quiesced", "the loss of the device process")
    line = run(ADAPTER, "status").stdout.splitlines()[-1]
    assert line.startswith("music: in use, but no process serves it"), line
    card.start_device()
    card.wait_ready()
    assert status("music")["counters"]["restarts"] == 1


def test_a_process_that_hangs_does_not_hang_the_table(make_told):
    music, _ = make_told("music"), make_told("phone")
    music.device.send(signal.SIGSTOP)
    cards = {card["name"]: card for card in status()}
    assert cards["music"]["device_process"]["error"] == "no answer within 1000 ms"
    assert len(cards["phone"]["device_process"]["answer"]["streams"]) == 2
    assert "music: its device process: no answer" in run(ADAPTER, "status").stdout
    music.device.send(signal.SIGCONT)
    wait_until(lambda: "answer" in status("music")["device_process"], "the process to answer again")


def test_a_live_table_shows_levels(make_card, folder, on_terminal):
    """A device process says what it likes; what the table makes of it."""
    make_card("music", "--host", "null")
    stream = {"direction": "playback", "state": "running", "role": "Music\x1b[2J", "peak": [-30.0, None], "gaps": 3,
              "parameters": {"rate": 48000, "period_frames": 480}, "delay_frames": 960}
    speaker = Speaker("music", {"streams": [stream]})
    try:
        screen = on_terminal("status", "--watch=0.1")
        screen.wait_for(lambda text: "██████" in text and "-30.0 dB" in text, "the meter")
        assert terminal.ENTER in screen.text and terminal.HIDE in screen.text
        assert "1 card, 1 in use" in screen.text and "q: quit" in screen.text
        for text in ("Music[2J", "48000 Hz", "10.0 ms", "20.0 ms"):
            assert text in screen.text
        assert "\x1b[2J" not in screen.text
        stream["peak"] = [-3.0]
        screen.wait_for(lambda text: "-3.0 dB" in text, "the next level")
        screen.forget()
        screen.resize_and_tell(60, 10)
        screen.wait_for(lambda text: "CARD" in text, "the table for the narrow screen")
        assert "LEVEL" in screen.text and "PERIOD" not in screen.text and "KICKS" not in screen.text
        screen.press("q")
        assert screen.wait() == 0
        assert terminal.LEAVE in screen.text and terminal.SHOW in screen.text
        assert screen.is_as_before()
    finally:
        speaker.close()


@pytest.mark.parametrize("end", ["\x1b", "\x03", signal.SIGTERM, signal.SIGINT])
def test_the_terminal_is_given_back(make_told, on_terminal, end):
    make_told("music")
    screen = on_terminal("status", "music", "--watch")
    screen.wait_for(lambda text: "music" in text, "the table")
    assert not screen.is_as_before(), "raw keys"
    if isinstance(end, str):
        screen.press(end)
    else:
        screen.send(end)
    assert screen.wait() == 0
    assert terminal.LEAVE in screen.text and screen.is_as_before()


def test_colours_are_for_those_who_want_them(make_told, on_terminal):
    make_told("music")
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        screen = on_terminal("status", **environment)
        assert screen.wait() == 0
        assert "music" in screen.text
        assert ("\x1b[" in screen.text) == coloured, (environment, screen.text)
    assert "\x1b" not in run(ADAPTER, "status").stdout


def test_a_card_that_goes_is_waited_for(make_told, on_terminal):
    card = make_told("music")
    screen = on_terminal("status", "music", "--watch=0.1")
    screen.wait_for(lambda text: "live" in text, "the table")
    screen.forget()
    card.destroy()
    screen.wait_for(lambda text: "no device" in text.lower(), "a word about that")
    make_told("music")
    screen.forget()
    screen.wait_for(lambda text: "live" in text, "the card that is back")
    screen.press("q")
    assert screen.wait() == 0


def test_without_a_terminal_there_are_tables_and_lines(make_told):
    make_told("music")
    tables = Program(ADAPTER, "status", "--watch=0.1")
    wait_until(lambda: tables.output().count("CARD ") >= 3, "the third table")
    lines = Program(ADAPTER, "status", "--watch=0.1", "--json")
    wait_until(lambda: lines.output().count("\n") >= 3, "the third line")
    for program in (tables, lines):
        program.send(signal.SIGTERM)
        assert program.wait() == 0, program.output()
        assert "\x1b" not in program.output()
    for line in lines.output().splitlines():
        (card,) = json.loads(line)
        assert card["name"] == "music" and card["device_process"]["answer"]["driver"]


def test_who_has_seen_enough_ends_a_watch(make_told):
    make_told("music")
    ours, theirs = os.pipe()
    with os.fdopen(ours) as lines:
        # SIGPIPE is ignored in a Rust program, so it sees an error.
        watch = Program(ADAPTER, "status", "--watch=0.1", "--json", stdout=theirs)
        os.close(theirs)
        assert json.loads(lines.readline())[0]["name"] == "music"
    assert watch.wait() == 0, watch.output()


def test_a_watch_that_nobody_reads_ends_when_it_is_told(make_told):
    make_told("music")
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(ours), os.fdopen(theirs):
        watch = Program(ADAPTER, "status", "--watch=0.1", "--json", stdout=theirs)
        call = pathlib.Path(f"/proc/{watch.pid}/wchan")
        wait_until(lambda: "pipe" in call.read_text(), "a write that waits")
        watch.send(signal.SIGTERM)
        assert watch.wait() == 0, watch.output()


def test_run_tells_its_command_where_to_take_commands():
    """The device process is found by status although nobody has said where it listens."""
    command = [path_of("vhost-user-sound"), "--host", "null"]
    adapter = Program(ADAPTER, "run", "--name", "music", "--ephemeral", "--", *command)
    wait_until(lambda: " live " in run(ADAPTER, "list").stdout or not adapter.running(), "the card")
    assert adapter.running(), adapter.output()
    assert (COMMANDS / "music.commands").is_socket()
    assert oct((COMMANDS).stat().st_mode)[-3:] == "755"
    assert len(status("music")["device_process"]["answer"]["streams"]) == 2
    adapter.send(signal.SIGTERM)
    assert adapter.wait() == 0, adapter.output()


def test_destroy_tells_programs(make_told):
    card = make_told("music")
    card.adapter.stop()
    said = run(ADAPTER, "destroy", "--json", "music").stdout
    assert json.loads(said) == {"name": "music", "destroyed": True}
    refused = run(ADAPTER, "destroy", "--json", "music", check=False)
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["level"] == "error"


def test_run_logs_json(folder):
    adapter = Program(ADAPTER, "run", "--json", "--name", "music", "--socket", FOLDER / "nobody")
    wait_until(lambda: adapter.output().count("\n"), "a word")
    adapter.send(signal.SIGTERM)
    assert adapter.wait() == 0, adapter.output()
    lines = [json.loads(line) for line in adapter.output().splitlines()]
    assert lines[0]["level"] == "info" and "waiting" in lines[0]["message"], lines
