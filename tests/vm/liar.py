# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A vhost-user device process of a sound card that lies in the answer to one message."""

import contextlib
import socket
import struct
import threading

# Numbers of messages: vhost-user specification, "Front-end message types".
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 11, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
GET_CONFIG = 24
REPLY, NEED_REPLY = 0x5, 0x8  # with version 1
HEADER = struct.Struct("<III")  # request, flags, bytes that follow
# VERSION_1, PROTOCOL_FEATURES, EVENT_IDX, INDIRECT_DESC, VIRTIO_SND_F_CTLS.
FEATURES = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | 1 << 0
# MQ, REPLY_ACK, CONFIG.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 9
NUMBERS = {GET_FEATURES: FEATURES, GET_PROTOCOL_FEATURES: PROTOCOL_FEATURES, GET_QUEUE_NUM: 4}
CONFIG = struct.pack("<4I", 0, 2, 0, 0)  # jacks, streams, channel maps, controls
HANG_UP = b""


def number(value):
    return struct.pack("<Q", value)


def reply(request, payload, flags=REPLY, size=None):
    """A message; `size`: how long it says that it is."""
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


class Liar:
    """Listens at a socket's path until it is closed. `lie`: returns the answer to `request`, whose body it is
    given; None: there is none."""

    def __init__(self, path, request, lie):
        self.request, self.lie = request, lie
        self.told = 0  # lies
        self.path = path
        path.unlink(missing_ok=True)
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
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while self._talk(connection):
                    pass

    def _talk(self, connection):
        head = connection.recv(HEADER.size, socket.MSG_WAITALL)  # files that come with it are not taken
        if len(head) < HEADER.size:
            return False
        request, flags, size = HEADER.unpack(head)
        body = connection.recv(size, socket.MSG_WAITALL) if size else b""
        if request == self.request:
            self.told += 1
            answer = self.lie(body)
        else:
            answer = honest(request, flags, body)
        if answer:
            connection.sendall(answer)
        return answer != HANG_UP


def honest(request, flags, body):
    if request in NUMBERS:
        return reply(request, number(NUMBERS[request]))
    if request == GET_CONFIG:
        room = len(body) - 12
        return reply(request, body[:12] + CONFIG.ljust(room, b"\0")[:room])
    return reply(request, number(0)) if flags & NEED_REPLY else None
