# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Units, processes and cards of the machine, and sound through one of them."""

import pathlib
import random
import re
import subprocess
import tempfile
import time

LAYOUT = ["-t", "raw", "-f", "S16_LE", "-c", "2", "-r", "48000"]
SIZES = ["--period-size", "1200", "--buffer-size", "4800"]
FRAME_BYTES = 4


def wait_until(condition, what, seconds=15.0):
    """Waits for something that has to come; returns what `condition` returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds:g} s\n{journal('-n', '30')}"
        time.sleep(0.02)
    return value


def run(*command, check=True):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if check and result.returncode:
        said = f"{result.stdout}{result.stderr}\n{journal('-n', '30')}"
        raise AssertionError(f"{' '.join(command)}: {result.returncode}\n{said}")
    return result


def systemctl(*arguments, check=True):
    return run("systemctl", *arguments, check=check)


def journal(*arguments):
    return subprocess.run(["journalctl", "--no-pager", *arguments], capture_output=True, text=True).stdout


def show(unit, name):
    """A property of a unit."""
    return systemctl("show", "--property", name, "--value", unit).stdout.strip()


def state(unit):
    return show(unit, "ActiveState")


def device_unit(card):
    return f"vhost-user-sound@{card}.service"


def guard_process(card):
    """Process id of the guard of a card's sound device, which is the unit's main process."""
    return wait_until(lambda: int(show(device_unit(card), "MainPID")), f"the guard of {card}")


def device_process(card):
    """Process id of the sound device of a card, which runs."""

    def worker():
        guard = guard_process(card)
        try:
            children = pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        except FileNotFoundError:
            return None  # it has just ended
        return int(children[0]) if children else None

    return wait_until(worker, f"the device process of {card}")


def adapter_process(card):
    return int(show(f"virtio-loopback@{card}.service", "MainPID"))


def cards():
    """Ids of the cards that aplay lists."""
    return set(re.findall(r"^card \d+: (\S+) ", run("aplay", "-l").stdout, re.MULTILINE))


def proc_status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def realtime_priorities(pid):
    """Of the threads of a process that are SCHED_FIFO."""
    fields = [path.read_text().rsplit(")", 1)[1].split() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    # proc(5): rt_priority and policy are fields 40 and 41, the state behind the name is the third.
    return [int(field[37]) for field in fields if field[38] == "1"]


def noise(seconds, seed=1):
    """Without any repetition, so that each lost, moved or repeated frame shows."""
    frames = int(seconds * 48000) // 1200 * 1200
    return b"\x55" + random.Random(seed).randbytes(frames * FRAME_BYTES - 1)


class Recorder:
    """Records at the far end of a real card, or what a card captures."""

    buffer = 48000  # frames, unless told otherwise: a busy machine may be late

    def __init__(self, pcm, sizes=("--period-size", "1200", "--buffer-size", str(buffer))):
        self.file = tempfile.NamedTemporaryFile(suffix=".raw")
        command = ["arecord", "-q", "-D", pcm, *LAYOUT, *sizes, self.file.name]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self.recorded() or self.process.poll() is not None, "the recorder")
        assert self.process.poll() is None, self.process.stderr.read()

    def recorded(self):
        return pathlib.Path(self.file.name).read_bytes()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        _, said = self.process.communicate(timeout=20)
        assert "overrun" not in said and "error" not in said, said
        return self.recorded()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_playing(pcm, sound, sizes=SIZES):
    file = tempfile.NamedTemporaryFile(suffix=".raw", delete=False)
    file.write(sound)
    file.close()
    return subprocess.Popen(["aplay", "-q", "-D", pcm, *LAYOUT, *sizes, file.name],
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(player):
    """It ends as if nothing had been."""
    _, said = player.communicate(timeout=60)
    assert (player.returncode, said) == (0, ""), said


def plays(card, far_end, seconds=0.5, seed=1):
    """Plays on the card; every frame arrives at the real card's far end, once and in order."""
    sound = noise(seconds, seed)
    with Recorder(far_end) as recorder:
        finish(start_playing(f"hw:{card}", sound))
        wait_until(lambda: sound in recorder.recorded(), f"what {card} played", 3)
