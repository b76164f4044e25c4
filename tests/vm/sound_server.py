# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A PipeWire server of the test's own, without a user's session: its nodes are made up, its clock is
CLOCK_MONOTONIC. WirePlumber links its clients, if the test wants that."""

import glob
import json
import os
import pathlib
import shutil

import graph_tools
import guest_memory
import programs
from programs import Program, wait_until

FOLDER = pathlib.Path("/run/pipewire-test")
PROGRAMS = ["/usr/bin/pipewire", "/usr/bin/wireplumber", "/usr/bin/pw-link", "/usr/bin/pw-cat", "/usr/bin/pw-dump"]
# What they load by themselves, below the folder of the machine's libraries.
PLUGINS = ["spa-0.2/support/*.so", "spa-0.2/audioconvert/*.so", "spa-0.2/alsa/*.so", "wireplumber-*/*.so"]
MODULE = "pipewire-0.3/libpipewire-module-{}.so"
FOLDERS = ["/usr/share/pipewire", "/usr/share/wireplumber"]
FUNCTIONS = "/usr/share/wireplumber/common/00-functions.lua"

MODULES = ["rt", "protocol-native", "metadata", "spa-node-factory", "client-node", "client-device", "access", "adapter",
           "link-factory", "session-manager"]

# Real-time without a user's session to ask for it.
RT = {"rt": {"args": {"rt.prio": 60}, "flags": ["ifexists", "nofail"]}}

# Links streams with the nodes that they name, or the only one that there is; looks after no devices.
WIREPLUMBER = """
context.spa-libs = {
  audio.convert.* = audioconvert/libspa-audioconvert
  support.*       = support/libspa-support
}
context.modules = [
  { name = libpipewire-module-protocol-native }
  { name = libpipewire-module-client-node }
  { name = libpipewire-module-client-device }
  { name = libpipewire-module-adapter }
  { name = libpipewire-module-metadata }
  { name = libpipewire-module-session-manager }
]
wireplumber.components = [
  { name = libwireplumber-module-lua-scripting, type = module }
  { name = test.lua, type = config/lua }
]
"""
WIREPLUMBER_SCRIPTS = """
load_module("metadata")
load_script("access/access-default.lua")
load_module("default-nodes")
load_module("si-node")
load_module("si-audio-adapter")
load_module("si-standard-link")
load_module("si-audio-endpoint")
load_module("default-nodes-api")
load_module("mixer-api")
load_script("create-item.lua")
load_script("policy-node.lua")
"""


def install():
    """Puts the programs where they run from memory."""
    if guest_memory.has("pipewire"):
        return
    libraries = pathlib.Path(glob.glob("/usr/lib/*/libpipewire-0.3.so.0")[0]).parent
    patterns = [*PLUGINS, *map(MODULE.format, MODULES)]
    guest_memory.add(PROGRAMS + [str(path) for pattern in patterns for path in libraries.glob(pattern)])
    for folder in FOLDERS:
        shutil.copytree(folder, guest_memory.ROOT / folder[1:], dirs_exist_ok=True)


def null_node(name, media_class, rate, channels):
    """A node that is a sound card's stand-in: a sink with a monitor, or a source that hands out what it
    is given."""
    return {
        "factory": "adapter",
        "args": {
            "factory.name": "support.null-audio-sink",
            "node.name": name,
            "media.class": media_class,
            "audio.rate": rate,
            "audio.position": graph_tools.POSITIONS[channels],
            "priority.session": 1000,
            # Where no session manager asks for ports.
            "adapter.auto-port-config": {"mode": "dsp", "monitor": media_class == "Audio/Sink"},
        },
    }


def alsa_sink(name, device, latency):
    """A sink on a real card, said to be so many nanoseconds further from the ear than the card knows."""
    return {
        "factory": "adapter",
        "args": {
            "factory.name": "api.alsa.pcm.sink",
            "node.name": name,
            "media.class": "Audio/Sink",
            "api.alsa.path": device,
            "audio.rate": 48000,
            "audio.channels": 2,
            "audio.position": "[ FL FR ]",
            "latency.internal.ns": latency,
            "adapter.auto-port-config": {"mode": "dsp"},
        },
    }


class SoundServer:
    """`pipewire`, with a sink `speakers` and a source `microphone`."""

    def __init__(self, rate=48000, quantum=1024, channels=2, policy=True, more=()):
        install()
        self.rate, self.policy = rate, policy
        self.server = self.manager = None
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        clock = {f"default.clock.{name}": quantum for name in ("quantum", "min-quantum", "max-quantum")}
        driver = {"factory.name": "support.node.driver", "node.name": "Dummy-Driver", "priority.driver": 20000}
        configuration = {
            "context.properties": {
                "core.daemon": True,
                "core.name": "pipewire-0",
                "default.clock.rate": rate,
                "default.clock.allowed-rates": [rate],
                # A virtual machine's own, by default.
                "vm.overrides": {},
                **clock,
            },
            "context.spa-libs": {
                "api.alsa.*": "alsa/libspa-alsa",
                "audio.convert.*": "audioconvert/libspa-audioconvert",
                "support.*": "support/libspa-support",
            },
            "context.modules": [{"name": f"libpipewire-module-{name}", **RT.get(name, {})} for name in MODULES],
            "context.objects": [
                {"factory": "metadata", "args": {"metadata.name": "default"}},
                {"factory": "spa-node-factory", "args": driver},
                null_node("speakers", "Audio/Sink", rate, channels),
                null_node("microphone", "Audio/Source/Virtual", rate, channels),
                *more,
            ],
        }
        (FOLDER / "pipewire.conf").write_text(json.dumps(configuration, indent=1))
        (FOLDER / "wireplumber.conf").write_text(WIREPLUMBER)
        scripts = FOLDER / "test.lua.d"
        scripts.mkdir()
        shutil.copy(FUNCTIONS, scripts)
        (scripts / "50-test.lua").write_text(WIREPLUMBER_SCRIPTS)
        os.environ["PIPEWIRE_RUNTIME_DIR"] = str(FOLDER)
        os.environ["XDG_STATE_HOME"] = str(FOLDER / "state")
        self.start()

    def start(self):
        self.server = Program("/usr/bin/pipewire", "-c", FOLDER / "pipewire.conf")
        wait_until(lambda: self.nodes() or not self.server.running(), f"pipewire\n{self.server.output()}")
        assert self.server.running(), self.server.output()
        if self.policy:
            os.environ["WIREPLUMBER_CONFIG_DIR"] = str(FOLDER)
            self.manager = Program("/usr/bin/wireplumber", "-c", FOLDER / "wireplumber.conf")
        return self

    def kill(self):
        """Ends at once, as in a crash."""
        for program in (self.manager, self.server):
            if program:
                program.kill()
        self.server = self.manager = None

    def stop(self):
        """Ends it; the environment is as before."""
        self.kill()
        for name in ("PIPEWIRE_RUNTIME_DIR", "XDG_STATE_HOME", "WIREPLUMBER_CONFIG_DIR"):
            os.environ.pop(name, None)

    def report(self):
        """What its programs said, for a test that has failed."""
        programs_ = [program for program in (self.server, self.manager) if program]
        return "\n".join(f"-- {program}\n{program.output()}" for program in programs_)

    # What is in its graph.

    def dump(self):
        result = programs.run("/usr/bin/pw-dump", check=False)
        try:
            return json.loads(result.stdout)
        except json.JSONDecodeError:
            return []

    def nodes(self):
        """The properties of all nodes, by name."""
        infos = [entry["info"] for entry in self.dump() if entry["type"] == "PipeWire:Interface:Node"]
        return {info["props"]["node.name"]: {**info["props"], "state": info["state"]} for info in infos}

    def wait_for_node(self, name):
        """All nodes, as soon as this one is there."""
        wait_until(lambda: name in self.nodes(), f"node {name}")
        return self.nodes()

    def wait_until_gone(self, name):
        wait_until(lambda: name not in self.nodes(), f"node {name} to be gone")

    def ports(self, node, option):
        """The ports of a node by their channels: `-o` those that give samples, `-i` those that take them."""
        names = programs.run("/usr/bin/pw-link", option, check=False).stdout.split()
        return {name.rpartition("_")[2]: name for name in names if name.startswith(f"{node}:")}

    def pairs(self, output, input_):
        """What is to be linked: both nodes' ports of one channel. None while a node still gets its ports,
        which come one after another."""
        outputs, inputs = self.ports(output, "-o"), self.ports(input_, "-i")
        return [(outputs[channel], inputs[channel]) for channel in outputs] if outputs.keys() == inputs.keys() else []

    def link(self, output, input_):
        """Links two nodes as soon as their ports are there: one channel after another, so the first has
        sound before the last."""
        for pair in wait_until(lambda: self.pairs(output, input_), f"ports of {output} and {input_}"):
            programs.run("/usr/bin/pw-link", *pair)

    def unlink(self, output, input_):
        for pair in self.pairs(output, input_):
            programs.run("/usr/bin/pw-link", "-d", *pair)
