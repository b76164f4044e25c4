# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the guest's kernel counts while something runs: CPU, context switches, system calls."""

import pathlib
import re
import time

PROC = pathlib.Path("/proc")
TRACING = pathlib.Path("/sys/kernel/tracing")
PF_KTHREAD = 0x00200000
SYSCALLS = TRACING / "events/raw_syscalls/sys_enter/trigger"
SWITCHES = TRACING / "events/sched/sched_switch/trigger"
SYSCALL_KEYS = "hist:keys=common_pid,id.syscall:size=4096"
SWITCH_KEYS = "hist:keys=prev_comm,next_comm:size=4096"


def cpu_of(pids):
    """Nanoseconds that each thread of these processes has run."""
    found = {}
    for pid in pids:
        for task in PROC.glob(f"{pid}/task/*/schedstat"):
            try:
                found[task.parent.name] = int(task.read_text().split()[0])
            except (OSError, IndexError):
                pass  # it has ended meanwhile
    return found


def difference(after, before):
    """What those threads that are still there have run since; kworkers come and go."""
    return sum(nanos - before.get(thread, 0) for thread, nanos in after.items())


def kernel_threads():
    """Process ids of the kernel's own threads: kworkers and their like."""
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[6]) & PF_KTHREAD:
            found.append(int(stat.parent.name))
    return found


def threads_of(pid):
    return [int(task.name) for task in PROC.glob(f"{pid}/task/*")]


def context_switches():
    return int(re.search(r"^ctxt (\d+)", (PROC / "stat").read_text(), re.MULTILINE)[1])


def idle_nanoseconds():
    """Time in which the processors had nothing to do, interrupts not counted as nothing."""
    return sum(map(int, re.findall(r"\.idle_sleeptime\s*:\s*(\d+) nsecs", (PROC / "timer_list").read_text())))


class Window:
    """Counts between `begin` and `end`; reads the delicate ones closest to the time between."""

    def __init__(self, processes):
        self.processes = processes  # by name: lists of process ids

    def begin(self):
        self.before = self._slow()
        self.switches, self.idle, self.time = context_switches(), idle_nanoseconds(), time.monotonic_ns()

    def end(self):
        """Seconds, CPU in milliseconds of each process and of the kernel's threads, switches."""
        now, idle, switches = time.monotonic_ns(), idle_nanoseconds(), context_switches()
        after = self._slow()
        seconds = (now - self.time) / 1e9
        cpu = {name: difference(after[name], self.before[name]) / 1e6 for name in after}
        cpu["whole system"] = (now - self.time - (idle - self.idle)) / 1e6
        return {"seconds": seconds, "cpu_ms": cpu, "context_switches": switches - self.switches}

    def _slow(self):
        cpu = {name: cpu_of(pids) for name, pids in self.processes.items()}
        return {**cpu, "kernel threads": cpu_of(kernel_threads())}


class Trace:
    """System calls by process, and who made room for whom, while the block runs."""

    def __enter__(self):
        SYSCALLS.write_text(SYSCALL_KEYS)
        SWITCHES.write_text(SWITCH_KEYS)
        return self

    def __exit__(self, *_):
        calls = histogram(SYSCALLS.with_name("hist"), r"common_pid: +(\d+), id: (?:sys_)?(\w+)")
        self.syscalls = {(int(pid), name): count for (pid, name), count in calls.items()}
        self.switches = histogram(SWITCHES.with_name("hist"), r"prev_comm: (\S+) *, next_comm: (\S+) *")
        SYSCALLS.write_text("!" + SYSCALL_KEYS)
        SWITCHES.write_text("!" + SWITCH_KEYS)


def histogram(path, keys):
    """The counts of a trace histogram by its keys."""
    pattern = re.compile(r"\{ " + keys + r".*?\} hitcount: +(\d+)")
    return {match.groups()[:-1]: int(match.groups()[-1]) for match in pattern.finditer(path.read_text())}
