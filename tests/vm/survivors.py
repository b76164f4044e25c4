# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards whose processes are killed, and who starts them again."""

import json
import os
import pathlib
import signal
import time

import programs
from card import Card
from programs import Program, ends, wait_until


def child_of(pid):
    """The process that a process has started; None where there is none."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has gone itself
    return int(children[0]) if children else None


def ask(commands):
    """What the device process that takes its commands there says of itself."""
    reply = programs.run(programs.path_of("vhost-user-sound"), "tell", commands, "status", "--json")
    return json.loads(reply.stdout)


def wait_for_end(pid):
    assert ends(pid), f"process {pid} still runs"


def stop_for(card, seconds):
    """The card's adapter does nothing for so long."""
    card.adapter.send(signal.SIGSTOP)
    time.sleep(seconds)
    card.adapter.send(signal.SIGCONT)


class ReplacedDevice:
    """A card whose device process, `device_pid()`, is started again by another process."""

    def end_device(self, number):
        """Sends a signal to the device process; returns when another one serves the card."""
        before = self.device_pid()
        os.kill(before, number)
        self.wait_for_another(before)

    def take_memory_of_device(self):
        """The kernel kills the device process for its memory, which is its own choice and no signal of ours;
        returns when another one serves the card."""
        before = self.device_pid()
        pathlib.Path(f"/proc/{before}/oom_score_adj").write_text("1000")
        pathlib.Path("/proc/sysrq-trigger").write_text("f")
        self.wait_for_another(before)

    def wait_for_another(self, before):
        wait_until(lambda: self.device_pid() not in (None, before), "another device process")
        wait_until(self.ready, "the card to be served again")


class SupervisedCard(ReplacedDevice, Card):
    """`virtio-loopback run -- vhost-user-sound`: the adapter starts the device process again."""

    def start(self):
        self.start_adapter()
        return self

    def launch_adapter(self):
        sound = [*self.prefix, programs.path_of("vhost-user-sound"), *self.host]
        self.adapter = Program(programs.path_of("virtio-loopback"), "run", "--name", self.name, "--", *sound)

    def device_pid(self):
        """None between two of them."""
        return child_of(self.adapter.pid)

    def end_adapter(self, number):
        """The device process ends with its adapter."""
        device = self.device_pid()
        self.adapter.send(number)
        self.adapter.wait()
        wait_for_end(device)
        self.adapter.forget()
        self.start_adapter()

    def end_both(self, between=lambda: None):
        """`between`: what happens while there is neither."""
        device = self.device_pid()
        self.adapter.kill()
        try:
            os.kill(device, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended with its adapter
        between()
        self.adapter.forget()
        self.start_adapter()

    def told(self):
        """What the device process says of itself."""
        return ask(f"/run/virtio-loopback/{self.name}.commands")


class ServedCard(Card):
    """Each process is a service of its own: this object is the service manager."""

    def device_pid(self):
        return self.device.pid

    def end_device(self, number):
        self.device.send(number)
        self.device.kill()
        self.device.forget()
        self.start_device()
        wait_until(self.ready, "the card to be served again")

    def end_adapter(self, number):
        self.adapter.send(number)
        self.adapter.wait()
        self.adapter.forget()
        self.start_adapter()

    def end_both(self):
        for program in (self.adapter, self.device):
            program.kill()
            program.forget()
        self.start()


class RespawnedCard(ReplacedDevice, ServedCard):
    """`vhost-user-sound --respawn`: a guard starts the device process again."""

    def __init__(self, name, *host):
        super().__init__(name, "--respawn", *host)

    def device_pid(self):
        """None between two of them."""
        return child_of(self.device.pid)

    def end_guard(self):
        """Kills it; the device process ends with it, and the service manager starts both again."""
        served = self.device_pid()
        self.device.kill()
        wait_for_end(served)
        self.device.forget()
        self.start_device()
        self.wait_for_another(served)


class SupervisedRespawnedCard(SupervisedCard):
    """`virtio-loopback run --socket PATH -- vhost-user-sound --respawn`: a guard, which is the adapter's child."""

    def __init__(self, name, *host):
        super().__init__(name, "--respawn", *host)

    def launch_adapter(self):
        Card.launch_adapter(self, *self.device_command())

    def guard_pid(self):
        return child_of(self.adapter.pid)

    def device_pid(self):
        guard = self.guard_pid()
        return guard and child_of(guard)
