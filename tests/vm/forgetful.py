# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card whose device process, for all that its adapter can see, keeps nothing of what is in flight: whoever stands
between the two says so."""

import contextlib
import socket
import struct
import threading

import programs
from liar import GET_PROTOCOL_FEATURES, MOST_FILES, Listener, number, receive, reply, send
from survivors import ServedCard

INFLIGHT_SHMFD = 1 << 12
PIECE = 4096


class Between(Listener):
    """Takes connections at `path` and passes what is said on to whoever listens at `behind`, and back."""

    def __init__(self, path, behind):
        self.behind = behind
        super().__init__(path)

    def serve(self, connection):
        with socket.socket(socket.AF_UNIX) as backend:
            backend.connect(str(self.behind))
            asking = threading.Thread(target=pass_on, args=(connection, backend), daemon=True)
            asking.start()
            pass_answers_on(backend, connection)
            connection.shutdown(socket.SHUT_RDWR)
            asking.join()


def pass_on(source, target):
    with contextlib.suppress(OSError):
        while (message := socket.recv_fds(source, PIECE, MOST_FILES))[0]:
            send(target, message[0], message[1])
        target.shutdown(socket.SHUT_RDWR)


def pass_answers_on(source, target):
    while message := receive(source):
        request, flags, body, files = message
        if request == GET_PROTOCOL_FEATURES:
            (features,) = struct.unpack("<Q", body)
            body = number(features & ~INFLIGHT_SHMFD)
        send(target, reply(request, body, flags), files)


class ForgetfulCard(ServedCard):
    def start(self):
        self.between = Between(programs.FOLDER / f"{self.name}.between", self.socket)
        return super().start()

    def launch_adapter(self, *command):
        behind, self.socket = self.socket, self.between.path
        super().launch_adapter(*command)
        self.socket = behind

    def abandon(self):
        super().abandon()
        self.between.close()
