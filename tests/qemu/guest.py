# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the virtual machine does with the cards that QEMU shows it: plays and records.

    guest.py FOLDER

FOLDER holds tasks.json and the sounds, and is shared with the host. Every task's outcome goes
there too; what aplay and arecord say comes out as they say it.
"""

import json
import pathlib
import subprocess
import sys
import time

# The clocks of a slow virtual machine and of the sound device outside have nothing to do with each
# other. With these parameters of virtio_snd a guest may be 8 seconds late: ALSA, which counts within
# the buffer, is lost when all of a buffer has passed unseen.
DRIVER = ["pcm_buffer_ms=8000", "pcm_period_ms_max=1000"]
# Without a stop at an underrun or overrun, a late program makes a gap in time, not in sound.
NEVER_STOP = ["--stop-delay", str(1000 * 1000 * 1000)]


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not after {seconds} s")
        time.sleep(0.05)
    return value


def card(slot):
    """ALSA's number of the card in a PCI slot."""
    cards = pathlib.Path(f"/sys/bus/pci/devices/0000:00:{slot}.0")
    path = wait_for(f"the card in slot {slot}", lambda: next(iter(cards.glob("virtio*/sound/card*")), None))
    number = path.name.removeprefix("card")
    wait_for(f"the devices of card {number}", lambda: pathlib.Path(f"/dev/snd/controlC{number}").exists())
    return number


def start(program, task, name):
    """Starts aplay or arecord for a task, on the sound called name."""
    layout = ["-t", "raw", "-f", task["format"], "-c", str(task["channels"]), "-r", str(task["rate"])]
    sizes = ["--period-size", str(task["period"]), "--buffer-size", str(task["buffer"])]
    device = f"hw:{card(task['slot'])}"
    count = ["--samples", str(task["frames" if program == "aplay" else "record"])]
    command = [program, "-v", "-D", device, *layout, *sizes, *count, *NEVER_STOP, name]
    print("+", *command, flush=True)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def finish(process):
    if status := process.wait(300):
        raise SystemExit(f"{process.args[0]}: exit status {status}")


def mix(task):
    """Sets simple mixer elements; udev's own idea of their values has been carried out before."""
    subprocess.run(["udevadm", "settle"], check=True)
    for element, values in task["elements"].items():
        command = ["amixer", "-c", card(task["slot"]), "sset", element, *values]
        print("+", *command, flush=True)
        subprocess.run(command, check=True)


def play(task):
    finish(start("aplay", task, task["sound"]))


def record(task):
    finish(start("arecord", task, task["recording"]))


def play_and_record(task):
    recorder = start("arecord", task, task["recording"])
    recording = pathlib.Path(task["recording"])
    wait_for("a first frame", lambda: recording.exists() and recording.stat().st_size > 0)
    play(task)
    finish(recorder)


def load_driver():
    """virtio_snd, which udev has loaded meanwhile, anew with parameters."""
    subprocess.run(["modprobe", "--remove", "virtio_snd"], check=True)
    subprocess.run(["modprobe", "virtio_snd", *DRIVER], check=True)


def main():
    folder = pathlib.Path(sys.argv[1])
    load_driver()
    for task in json.loads((folder / "tasks.json").read_text()):
        print(f"== {task['name']}", flush=True)
        {"mix": mix, "play": play, "record": record, "both": play_and_record}[task["do"]](task)


if __name__ == "__main__":
    main()
