# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards as services whose sound goes to the PipeWire of the whole system, or through GStreamer."""

import os
import pathlib
import signal

from graph import Graph
from machine import (
    cards, device_process, device_unit, journal, plays, realtime_priorities, show, state, systemctl, wait_until,
)

SYSTEM = Graph("runuser", "-u", "pipewire", "--", "env", "PIPEWIRE_RUNTIME_DIR=/run/pipewire")


def test_the_card_brings_the_servers_up_and_comes_behind_them():
    systemctl("stop", "pipewire.service")
    systemctl("start", "virtio-loopback@graph")
    assert "graph" in cards()
    assert state("pipewire.service") == "active"

    def started(unit):
        return int(show(unit, "ExecMainStartTimestampMonotonic"))

    assert started("pipewire.service") < started(device_unit("graph")), "it comes behind its server"


def test_options_come_from_the_environment_file():
    assert "rt-priority 42" in pathlib.Path("/etc/virtio-loopback/graph.env").read_text()
    # PipeWire's library makes a real-time thread of its own, as its client-rt.conf says.
    assert 42 in realtime_priorities(device_process("graph"))


def test_in_its_sandbox_it_reaches_the_systems_pipewire():
    graph_plays(seed=20)


def graph_plays(seed):
    Graph("env", "PIPEWIRE_RUNTIME_DIR=/run/pipewire").plays("plughw:graph", seed)


def test_a_server_that_is_started_again_is_found_again():
    before = device_process("graph")
    systemctl("restart", "pipewire.service")
    wait_until(lambda: SYSTEM.has_ports("speakers"), "the new server's sink", 40)
    graph_plays(seed=21)
    assert device_process("graph") == before


def test_a_killed_device_process_on_pipewire_comes_back():
    before = device_process("graph")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: device_process("graph") != before, "another device process")
    assert "graph" in cards()
    graph_plays(seed=22)
    systemctl("stop", "virtio-loopback@graph")


def test_a_pipeline_plays_in_its_sandbox():
    systemctl("start", "virtio-loopback@pipeline")
    plays("pipeline", "hw:real1,1,1", seed=23)
    assert "denied" not in journal("-u", device_unit("pipeline"), "-o", "cat").lower()
    systemctl("stop", "virtio-loopback@pipeline")


def test_nothing_has_failed():
    assert systemctl("--failed", "--plain", "--no-legend").stdout == ""
