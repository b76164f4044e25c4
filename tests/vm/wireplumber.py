# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""PipeWire and WirePlumber, as one Debian release has them, in a root of their own in the guest's memory.

    server = WirePlumber("0.5")
    server.unpack()
    server.start(EXAMPLES / "0.5")      # clients: server.environment
    server.cards()                      # the cards that WirePlumber has taken
    server.stop()
"""

import json
import os
import pathlib
import shutil
import subprocess

import programs
from programs import Program, wait_until

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "virtio-loopback"
VERSIONS = ["0.5", "0.4"]  # of WirePlumber
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "wireplumber"
# What the servers share with the guest.
SHARED = ["dev", "proc", "sys", "run", "tmp"]
FILES = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"]


class WirePlumber:
    """`version` is WirePlumber's; its PipeWire is that of the same release."""

    def __init__(self, version):
        self.version = version
        self.root = programs.FOLDER / f"sound-server-{version}"
        self.runtime = programs.FOLDER / f"sound-server-{version}.run"
        self.bus = f"unix:path={self.runtime}/bus"
        # A client needs no more than this to find the server.
        self.environment = {"PIPEWIRE_RUNTIME_DIR": str(self.runtime)}
        self._programs = []

    def unpack(self):
        """Makes the root, once a boot: it is small enough to stay. Takes its time."""
        if self.root.exists():
            return
        archive = CACHE / "sound-servers" / f"{self.version}.tar"
        assert archive.exists(), f"{archive} is missing; make it: tests/harness/sound-servers {self.version}"
        self.root.mkdir()
        # In large blocks: each is a request to the host.
        subprocess.run(["tar", "--blocking-factor=1000", "-xf", archive, "-C", self.root], check=True)
        (self.root / "etc").mkdir()
        for path in FILES:
            shutil.copy(path, self.root / "etc")
        for folder in SHARED:
            (self.root / folder).mkdir()
            how = "--rbind" if folder == "dev" else "--bind"
            subprocess.run(["mount", how, f"/{folder}", self.root / folder], check=True)

    def start(self, *configuration):
        """Starts all of it; the folders given are laid over an empty /etc/wireplumber."""
        shutil.rmtree(self.root / "etc/wireplumber", ignore_errors=True)
        shutil.rmtree(self.root / "root", ignore_errors=True)  # what WirePlumber remembers
        shutil.rmtree(self.runtime, ignore_errors=True)
        self.runtime.mkdir(mode=0o700)
        for folder in configuration:
            shutil.copytree(folder, self.root / "etc/wireplumber", dirs_exist_ok=True)
        self._launch("dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={self.bus}")
        wait_until((self.runtime / "bus").exists, "the bus")
        self._launch("pipewire")
        wait_until((self.runtime / "pipewire-0").exists, "PipeWire's socket")
        self._launch("wireplumber")
        return self

    def stop(self):
        while self._programs:
            self._programs.pop().kill()

    def enter(self):
        """Goes into the root; for the time between fork and exec."""
        os.chroot(self.root)
        os.chdir("/")

    def _place(self):
        """Keywords for subprocess that run a program in the root."""
        variables = {"XDG_RUNTIME_DIR": str(self.runtime), "DBUS_SESSION_BUS_ADDRESS": self.bus}
        return {"preexec_fn": self.enter, "env": {**os.environ, **self.environment, **variables}}

    def _launch(self, *command):
        self._programs.append(Program(*command, **self._place()))

    def run(self, *command, **keywords):
        """Runs a program of the root to its end."""
        return programs.run(*command, **self._place(), **keywords)

    def objects(self, kind):
        """Properties of PipeWire's objects of a kind ("Node", "Device", ...)."""
        dump = json.loads(self.run("pw-dump").stdout or "[]")
        found = (entry["info"]["props"] for entry in dump if entry["type"] == f"PipeWire:Interface:{kind}")
        return [properties for properties in found if properties]

    def cards(self):
        """Names of the ALSA cards that WirePlumber has taken, those that /proc/asound/cards shows."""
        devices = self.objects("Device")
        return {device["api.alsa.card.longname"] for device in devices if "api.alsa.card.longname" in device}

    def nodes(self):
        """The nodes, by name."""
        return {node["node.name"]: node for node in self.objects("Node") if "node.name" in node}

    def report(self):
        """What its programs said, for a test that has failed."""
        return "\n".join(f"-- {program}, status {program.status}:\n{program.output()}" for program in self._programs)
