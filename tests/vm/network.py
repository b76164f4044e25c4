# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The interface that virtio_net makes of a loopback device, and who answers at its far end.

Most tests of the driver use this kind of device, since virtio_net waits for nobody: its device may
be served late, badly or not at all, on every kernel.

    with Control() as control:
        control.create("wire")                        # a network device is what CREATE makes here
        backend = Backend(control, answer(b"hello"))
        with Interface("wire") as wire:
            assert wire.ask() == b"hello"
"""

import contextlib
import fcntl
import glob
import os
import pathlib
import socket
import struct

import device

RX, TX = 0, 1
HEADER = 12  # struct virtio_net_hdr_v1
ETHERTYPE = 0x88B5  # for local experiments
WORD = struct.Struct(">H")  # how long what follows is: short frames are padded
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1


def interface(name):
    """The name of a loopback device's network interface, once there is one."""

    def registered():
        for path in glob.glob(f"{device.SYSFS}/{name}/virtio*/net/*"):
            # Its folder is there some time before it is.
            with contextlib.suppress(OSError):
                socket.if_nametoindex(os.path.basename(path))
                return os.path.basename(path)
        return None

    return device.wait_until(registered, what="the interface")


def set_up(name):
    """ip link set NAME up: the driver hands over buffers for what it will receive.

    The kernel sends nothing through it by itself.
    """
    quiet = pathlib.Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    if quiet.exists():
        quiet.write_text("1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", name.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", name.encode(), flags | UP))


def frame(word, source=b"\2loop\1"):
    return b"\xff" * 6 + source + struct.pack(">H", ETHERTYPE) + WORD.pack(len(word)) + word


class Interface:
    """The interface, up, and a socket on it."""

    def __init__(self, name):
        self.name = interface(name)
        set_up(self.name)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        self.socket.bind((self.name, ETHERTYPE))
        self.socket.settimeout(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, word=b"?"):
        self.socket.send(frame(word, b"\2loop\2"))

    def receive(self):
        """The word of the next frame that comes from the far end."""
        received = self.socket.recv(2048)[14:]
        return received[WORD.size : WORD.size + WORD.unpack_from(received)[0]]

    def ask(self):
        """Sends a frame, and returns what the far end says to it."""
        self.send()
        return self.receive()


def ask(name):
    with Interface(name) as wire:
        return wire.ask()


def deliver(queue, word, interrupt=True):
    """Puts a frame into the next buffer of a queue for received frames."""
    queue.write(queue.wait(), bytes(HEADER) + frame(word), interrupt)


def answer(word):
    """A handler for Backend: every frame that is sent is answered with a frame that holds the word."""

    def handle(_index, queue, chain):
        queue.push(chain, 0)
        deliver(queue.others[RX], word)

    handle.leaves = {RX}
    return handle


def keep(_index, _queue, _chain):
    """A handler for Backend that keeps the driver's buffers."""
