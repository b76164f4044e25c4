# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Runs the fuzzer in a guest and judges the kernel's log; tests/harness/fuzz starts it there.

    in_guest.py MODULE PROGRAM LOG SECONDS SEED [--inject]
"""

import functools
import json
import pathlib
import re
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))

import device  # noqa: E402
from machine import unload_module  # noqa: E402
from reports import DEBUG, leaks, lockdep_watches, ours, reports

# Seconds, the longest there are: on a busy host a guest's CPU may stand still, and kmemleak scan for long.
STALL_SECONDS = "300"
# For the devices to go: of each, virtio_snd waits a second for every answer that nobody gives any more.
END_SECONDS = 60
# Seconds that a process lasts at least, on the average, before an injected failure ends it.
MEAN_LIFE = 5
DRIVERS = ["virtio_ring", "virtio_snd", "virtio_net", "virtio_input", "virtio_rng"]
# One call in so many fails, of those that ask for memory or copy from or to the process.
FAULTS = ["failslab", "fail_page_alloc", "fail_usercopy"]
# From the driver's function down to the one that decides whether to fail.
CALLS_DEEP = "6"
FAULT_SETTINGS = {"interval": "7", "times": "-1", "verbose": "0", "probability": "5"}


def inject(choice):
    """`choice`: settings that say which calls those are."""
    stop_injecting()
    for fault in ("failslab", "fail_page_alloc"):
        (DEBUG / fault / "ignore-gfp-wait").write_text("N")
    (DEBUG / "fail_page_alloc/min-order").write_text("0")
    for fault in FAULTS:
        # How many comes last: before, it is not known which.
        for name, value in {**choice, **FAULT_SETTINGS}.items():
            (DEBUG / fault / name).write_text(value)


def stop_injecting():
    for fault in FAULTS:
        (DEBUG / fault / "probability").write_text("0")


def in_code_of(module):
    """What the driver itself asks for, whoever runs it: a task, or one of the kernel's own threads. Drivers above,
    which run where it calls them, have faults of their own there."""
    sections = subprocess.run(["readelf", "-SW", module], stdout=subprocess.PIPE, text=True, check=True).stdout
    size = int(re.search(r" \.text +PROGBITS +\w+ +\w+ +(\w+)", sections)[1], 16)
    start = int(pathlib.Path("/sys/module/virtio_loopback/sections/.text").read_text(), 16)
    end = hex(start + size)
    return {"task-filter": "N", "stacktrace-depth": CALLS_DEEP, "require-start": hex(start), "require-end": end}


def fuzz_with_failures(module, program, seconds, seed, options):
    """Half of the time whatever the fuzzer's threads call may fail, half of the time whatever the driver calls."""
    faults = []
    for number, choice in enumerate([{"task-filter": "Y"}, in_code_of(module)]):
        inject(choice)
        faults += fuzz(program, seconds // 2, seed + number, options)
    stop_injecting()
    return faults


def fuzz(program, seconds, seed, options):
    """Prints what was counted, and returns what is wrong with it: a run that did nothing finds nothing."""
    command = [program, "--seed", str(seed), "--threads", "10", "--seconds", str(seconds), *options]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(run.stdout, end="")
    if run.returncode:
        return [f"exit status {run.returncode}"]
    counts = json.loads(run.stdout)
    restarts = counts.pop("restarts")
    faults = [f"nothing {name}" for name, times in counts.items() if times == 0]
    if restarts > seconds // MEAN_LIFE:
        faults.append(f"{restarts} restarts")
    return faults


def remove():
    """Every device that is left, then the driver; returns what does not go."""
    try:
        device.destroy_all(END_SECONDS)
        unload_module()
    except (OSError, TimeoutError, AssertionError) as error:
        return [str(error)]
    return []


def marked(log_file, text):
    """Says so in the kernel's log until it has come through to the file: all before has, too."""

    def arrived():
        pathlib.Path("/dev/kmsg").write_text(f"fuzzer: {text}")
        return f"fuzzer: {text}" in pathlib.Path(log_file).read_text(errors="replace")

    device.wait_until(arrived, what=f"'{text}' in the kernel's log")


def main():
    module, program, log_file, seconds, seed, *options = sys.argv[1:]
    subprocess.run(["modprobe", "-a", *DRIVERS], check=True)
    subprocess.run(["insmod", module], check=True)
    if not (DEBUG / "tracing").exists():
        subprocess.run(["mount", "-t", "debugfs", "none", str(DEBUG)], check=False)
    pathlib.Path("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout").write_text(STALL_SECONDS)
    how = functools.partial(fuzz_with_failures, module) if "--inject" in options else fuzz
    # As it comes: the kernel keeps the end alone. Not how it started, which lockdep has its part in.
    with open(log_file, "w") as log, subprocess.Popen(["dmesg", "--follow-new"], stdout=log) as follower:
        try:
            marked(log_file, "begins")
            faults = how(program, int(seconds), int(seed), options) + remove()
            found_leaks = leaks()
            if not lockdep_watches():
                faults.append("lockdep has given up")
            marked(log_file, "ends")
        finally:
            follower.terminate()
    with open(log_file, "a") as log:
        log.write(found_leaks)
    text = pathlib.Path(log_file).read_text(errors="replace")
    found = [report for report in reports(text) if ours(report)]
    for report in found[:5]:
        print(report, end="\n\n")
    print(f"fuzzed for {seconds} s, seed {seed}: {len(found)} reports{''.join(', ' + fault for fault in faults)}")
    sys.exit(1 if found or faults else 0)


if __name__ == "__main__":
    main()
