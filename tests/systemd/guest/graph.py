# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""PipeWire's graph, of the system or of a user: what is played at its sink `speakers` is recorded."""

import pathlib
import subprocess
import tempfile

from machine import LAYOUT, noise, run, wait_until

RECORDING = pathlib.Path("/tmp/recording.wav")
RECORDER = ["pw-cat", "--record", "--target", "0", "--format", "s16", "--rate", "48000", "--channels", "2",
            "-P", "{ node.name = recorder }", str(RECORDING)]


class Graph:
    """A PipeWire server, reached with these words before a command."""

    def __init__(self, *prefix):
        self.prefix = prefix

    def run(self, *command, check=True):
        return run(*self.prefix, *command, check=check)

    def start(self, *command):
        return subprocess.Popen([*self.prefix, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def has_ports(self, node):
        return f"{node}:" in self.run("pw-link", "-io", check=False).stdout

    def plays(self, pcm, seed, seconds=1.0):
        """Plays on ALSA's PCM `pcm`; all of it arrives at the sink, in order."""
        sound = noise(seconds, seed)
        with GraphRecorder(self) as recorder, tempfile.NamedTemporaryFile(suffix=".raw") as file:
            file.write(sound)
            file.flush()
            pathlib.Path(file.name).chmod(0o644)
            player = self.start("aplay", "-q", "-D", pcm, *LAYOUT, file.name)
            _, said = player.communicate(timeout=60)
            assert player.returncode == 0, said
            wait_until(lambda: sound in recorder.recorded(), f"what {pcm} played", 10)


class GraphRecorder:
    """Records at the monitor of the sink."""

    def __init__(self, graph):
        wait_until(lambda: graph.has_ports("speakers"), "the sink of the graph", 40)
        RECORDING.unlink(missing_ok=True)
        self.process = graph.start(*RECORDER)
        wait_until(lambda: graph.has_ports("recorder"), "the recorder in the graph", 40)
        for channel in ("FL", "FR"):
            graph.run("pw-link", f"speakers:monitor_{channel}", f"recorder:input_{channel}")
        wait_until(lambda: len(self.recorded()) > 4096, "what the recorder records", 20)

    @staticmethod
    def recorded():
        return RECORDING.read_bytes() if RECORDING.exists() else b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=20)
        RECORDING.unlink()
