# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A virtual card as a user makes one: a sound device process, and an adapter process beside it."""

import json
import pathlib
import signal
import subprocess

import programs
from programs import Program, wait_until

CLASS = pathlib.Path("/sys/class/virtio-loopback")


class Card:
    """`vhost-user-sound` on a host, and `virtio-loopback run` that makes the card of it."""

    options = ()  # of the adapter
    endings = (0, -signal.SIGKILL)  # of the adapter, the other of a test that kills it

    def __init__(self, name, *host, prefix=()):
        self.name = name
        self.prefix = prefix  # of the device process's command line, such as chrt
        self.folder = CLASS / name
        self.socket = programs.FOLDER / f"{name}.socket"
        self.host = host
        self.device = self.adapter = None

    def start(self):
        self.start_device()
        self.start_adapter()
        return self

    def start_device(self):
        self.device = Program(*self.device_command())
        wait_until(lambda: self.socket.exists() or not self.device.running(), f"{self.name}: the device's socket")
        assert self.device.running(), self.device.output()

    def device_command(self):
        return [*self.prefix, programs.path_of("vhost-user-sound"), "--socket-path", self.socket, *self.host]

    def start_adapter(self):
        self.launch_adapter()
        self.wait_ready()

    def launch_adapter(self, *command):
        """Starts it, with a COMMAND to start if there is one, and does not wait for the card."""
        words = ["run", "--name", self.name, *self.options, "--socket", self.socket]
        self.adapter = Program(programs.path_of("virtio-loopback"), *words, *(["--", *command] if command else []))

    def wait_ready(self):
        wait_until(lambda: self.ready() or not self.adapter.running(), f"{self.name}: the card\n{self.report()}")
        assert self.adapter.running(), self.adapter.output()

    def ready(self):
        served = self.state() == "live" and self.attribute("attached") == "1"
        return served and self.alsa_id() == self.name and self.node_names()

    def kill_adapter(self):
        self.adapter.kill()
        wait_until(lambda: self.attribute("attached") == "0", f"{self.name}: the adapter to be gone")

    def destroy(self):
        """Removes the card, then ends both programs; each has to end by itself and in peace."""
        if self.folder.exists():
            programs.run(programs.path_of("virtio-loopback"), "destroy", self.name)
            wait_until(lambda: not self.folder.exists(), f"{self.name}: the device to be gone")
        if self.adapter:
            status = self.adapter.stop()
            assert status in self.endings, f"virtio-loopback: {status}\n{self.adapter.output()}"
            self.adapter = None
        if self.device:
            status = self.device.stop()
            assert status in (0, -signal.SIGTERM), f"vhost-user-sound: {status}\n{self.device.output()}"
            self.device = None

    def abandon(self):
        """Gets rid of everything, whatever state it is in."""
        subprocess.run([programs.path_of("virtio-loopback"), "destroy", self.name], capture_output=True, timeout=60)
        for program in (self.adapter, self.device):
            if program:
                program.kill()

    # What the kernel says about it.

    def attribute(self, name):
        try:
            return (self.folder / name).read_text().strip()
        except OSError:
            return None

    def counter(self, name):
        return int(self.attribute(name))

    def state(self):
        return self.attribute("state")

    def id_file(self):
        """Where its ALSA id is read and written; None while there is no ALSA card."""
        return next(self.folder.glob("virtio*/sound/card*/id"), None)

    def alsa_id(self):
        try:
            file = self.id_file()
            return file and file.read_text().strip()
        except OSError:
            return None

    def node_names(self):
        """Names of its device nodes, sorted. All are known with the one for its controls, and in /dev/snd a moment
        later: before, none."""
        names = sorted(path.parent.name for path in self.folder.glob("virtio*/sound/card*/*/dev"))
        complete = any(name.startswith("controlC") for name in names)
        return names if complete and all(pathlib.Path("/dev/snd", name).exists() for name in names) else []

    def nodes(self):
        """The same, waited for."""
        return wait_until(self.node_names, f"{self.name}: its device nodes")

    @property
    def pcm(self):
        return f"hw:{self.name}"

    def status(self):
        """What `virtio-loopback status --json` says."""
        return json.loads(programs.run(programs.path_of("virtio-loopback"), "status", self.name, "--json").stdout)

    def report(self):
        """What its programs said, for a test that has failed."""
        lines = [f"card {self.name}: state {self.state()}, ALSA id {self.alsa_id()}"]
        for program in (self.adapter, self.device):
            if program:
                lines += [f"-- {program}, status {program.status}:", program.output()]
        return "\n".join(lines)
