# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Programs under test, and their processes."""

import contextlib
import errno
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

import guest_memory

# Where virtio-loopback and vhost-user-sound lie in the guest.
FOLDER = pathlib.Path("/run/virtio-loopback-tests")


def install(source):
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("virtio-loopback", "vhost-user-sound"):
        program = pathlib.Path(source) / name
        if program.exists():
            shutil.copy2(program, FOLDER / name)
            guest_memory.add([str(FOLDER / name)])


def place(command):
    """Keywords for subprocess that put a program where it runs from memory."""
    return {"preexec_fn": guest_memory.enter} if guest_memory.has(command) else {}


def path_of(name):
    return str(FOLDER / name)


def links(pid):
    """What the open files of a process are, by number; without those that were closed meanwhile."""
    found = {}
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = os.readlink(link)
    return found


def pids_of(name):
    """Of the processes of this name, of which the kernel keeps 15 characters."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (process / "comm").read_text().rstrip("\n") == name[:15]:
                found.append(int(process.name))
    return found


def bind_virtio_snd(virtio):
    """By hand. It is bound by a thread of the kernel's a moment later, and who has asked for that gets an error."""
    file = os.open("/sys/bus/virtio/drivers/virtio_snd/bind", os.O_WRONLY)
    try:
        os.write(file, virtio.encode())
    except OSError as error:
        assert error.errno == errno.ENODEV, error
    else:
        raise AssertionError("it was bound by who has asked for it")
    finally:
        os.close(file)


def wait_until(condition, what, seconds=10.0, pause=0.01):
    """Waits for something that has to come; returns what `condition` returned. Between two looks
    is a pause, which should be longer where a look is long."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {seconds:g} s")
        time.sleep(pause)


def ends(pid, seconds=10.0):
    """Whether the process ends in time. It is seen at once, not at the next of several looks: what waits for this
    may be what is measured."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(1000 * seconds))
    finally:
        os.close(process)


def run(*command, check=True, timeout=30, **keywords):
    """Runs a program to its end; its output is text. More keywords are those of subprocess."""
    command = [str(word) for word in command]
    keywords = {"stdin": subprocess.DEVNULL, **place(command[0]), **keywords}
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **keywords)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr}")
    return result


class Program:
    """A process in the background, whose output is kept. Keywords are those of subprocess."""

    alive = []  # those of the test that runs

    @classmethod
    def kill_all(cls):
        while cls.alive:
            cls.alive.pop().kill()

    @classmethod
    def panics(cls):
        """What those said that have panicked."""
        return [f"{program}: {said}" for program in cls.alive if "panicked at" in (said := program.output())]

    def __init__(self, *command, stdin=subprocess.DEVNULL, **keywords):
        self.command = [str(word) for word in command]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self.command,
            stdin=stdin,
            **{"stdout": self._log, "stderr": self._log, **place(self.command[0]), **keywords},
        )
        self.pid = self._process.pid
        self.alive.append(self)

    def output(self):
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def running(self):
        return self._process.poll() is None

    @property
    def status(self):
        """Exit status; negative is the number of the signal; None while it runs."""
        return self._process.poll()

    def wait(self, seconds=10.0):
        if self.running() and not ends(self.pid, seconds):
            raise AssertionError(f"{self} still runs after {seconds:g} s\n{self.output()}")
        return self._process.wait()

    def send(self, number):
        os.kill(self.pid, number)

    def stop(self, seconds=10.0):
        """Asks it to end; a process that does not is an error."""
        if self.running():
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        try:
            return self.wait(seconds)
        finally:
            self.kill()

    def kill(self):
        if self.running():
            self.send(signal.SIGKILL)
        self._process.wait()

    def forget(self):
        """Gives back what is kept about a process that has ended."""
        assert "panicked at" not in (said := self.output()), said
        self.alive.remove(self)
        self._log.close()

    def files(self):
        """Number of open files."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def links(self):
        return links(self.pid)

    def resident_kib(self):
        """Memory in use, in KiB, without what is shared with files."""
        fields = dict(
            line.split(":", 1) for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        return int(fields["RssAnon"].split()[0])

    def __str__(self):
        return f"{pathlib.Path(self.command[0]).name} (process {self.pid})"
