# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card whose device process, for all that its adapter can see, keeps nothing of what is in flight: whoever stands
between the two says so."""

import contextlib
import socket
import struct
import threading

import programs
from liar import GET_PROTOCOL_FEATURES, HEADER, MOST_FILES, number, send
from survivors import ServedCard

INFLIGHT_SHMFD = 1 << 12
PIECE = 4096


class Between:
    """Takes connections at `path` and passes what is said on to whoever listens at `behind`, and back."""

    def __init__(self, path, behind):
        self.path, self.behind = path, behind
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink()

    def _run(self):
        while True:
            try:
                frontend, _ = self._listener.accept()
            except OSError:
                return
            backend = socket.socket(socket.AF_UNIX)
            with frontend, backend, contextlib.suppress(OSError):
                backend.connect(str(self.behind))
                asking = threading.Thread(target=pass_on, args=(frontend, backend), daemon=True)
                asking.start()
                pass_answers_on(backend, frontend)
                frontend.shutdown(socket.SHUT_RDWR)
                asking.join()


def pass_on(source, target):
    with contextlib.suppress(OSError):
        while (message := socket.recv_fds(source, PIECE, MOST_FILES))[0]:
            send(target, message[0], message[1])
        target.shutdown(socket.SHUT_RDWR)


def pass_answers_on(source, target):
    while True:
        head, files, _, _ = socket.recv_fds(source, HEADER.size, MOST_FILES, socket.MSG_WAITALL)
        if len(head) < HEADER.size:
            return
        request, _, size = HEADER.unpack(head)
        body = source.recv(size, socket.MSG_WAITALL) if size else b""
        if request == GET_PROTOCOL_FEATURES:
            (features,) = struct.unpack("<Q", body)
            body = number(features & ~INFLIGHT_SHMFD)
        send(target, head + body, files)


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
