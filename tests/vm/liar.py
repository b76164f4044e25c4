# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A vhost-user device process of a sound card that lies in the answer to one message."""

import collections
import contextlib
import os
import socket
import struct
import threading

# Numbers of messages: vhost-user specification, "Front-end message types".
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 11, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
SET_BACKEND_REQ_FD, GET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD = 21, 24, 31, 32
# "Back-end message types".
CONFIG_CHANGE, SHMEM_MAP = 2, 9
REPLY, NEED_REPLY = 0x5, 0x8  # with version 1
HEADER = struct.Struct("<III")  # request, flags, bytes that follow
EVENT_IDX, CTLS = 1 << 29, 1 << 0  # VIRTIO_RING_F_EVENT_IDX, VIRTIO_SND_F_CTLS
# VERSION_1, PROTOCOL_FEATURES, INDIRECT_DESC.
FEATURES = 1 << 32 | 1 << 30 | EVENT_IDX | 1 << 28 | CTLS
# MQ, REPLY_ACK, CONFIG.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 9
# BACKEND_REQ, INFLIGHT_SHMFD: of who lies about that.
MORE_PROTOCOL_FEATURES = {SET_BACKEND_REQ_FD: 1 << 5, GET_INFLIGHT_FD: 1 << 12, SET_INFLIGHT_FD: 1 << 12}
NUMBERS = {GET_FEATURES: FEATURES, GET_PROTOCOL_FEATURES: PROTOCOL_FEATURES, GET_QUEUE_NUM: 4}
CONFIG = struct.pack("<4I", 0, 2, 0, 0)  # jacks, streams, channel maps, controls
HANG_UP = b""
MOST_FILES = 4  # of a message
PIECE = 4096


def number(value):
    return struct.pack("<Q", value)


def reply(request, payload, flags=REPLY, size=None):
    """A message; `size`: how long it says that it is."""
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


def file_of(size):
    file = os.memfd_create("inflight")
    os.truncate(file, size)
    return file


def inflight(size, offset, *files, queues=4, entries=64):
    """The answer to GET_INFLIGHT_FD, with the files that come with it."""
    return reply(GET_INFLIGHT_FD, struct.pack("<QQHH4x", size, offset, queues, entries)), files


class Listener:
    """Listens at a socket's path until it is closed, and serves one connection after the other."""

    def __init__(self, path):
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
                self.serve(connection)


class Liar(Listener):
    """A device process. `lie`: returns the answer to `request`, whose body it is
    given, or the answer and the files that come with it; None: there is none. `channel`: the socket for what it says
    unasked, if it was given one."""

    def __init__(self, path, request, lie):
        self.request, self.lie = request, lie
        self.told = 0  # lies
        self.heard = collections.Counter()  # requests
        self.channel = None
        super().__init__(path)

    def close(self):
        super().close()
        if self.channel:
            self.channel.close()

    def say(self, data):
        """Says it on the channel, for as long as somebody listens."""
        self.channel.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for start in range(0, len(data), PIECE):
                self.channel.sendall(data[start : start + PIECE])

    def serve(self, connection):
        while self._talk(connection):
            pass

    def _talk(self, connection):
        message = receive(connection)
        if message is None:
            return False
        request, flags, body, files = message
        self.heard[request] += 1
        self._take(request, files)
        if request == self.request:
            self.told += 1
            answer = self.lie(body)
        elif request == GET_PROTOCOL_FEATURES:
            more = MORE_PROTOCOL_FEATURES.get(self.request, 0)
            answer = reply(request, number(PROTOCOL_FEATURES | more))
        else:
            answer = honest(request, flags, body)
        answer, files = answer if isinstance(answer, tuple) else (answer, ())
        if answer:
            send(connection, answer, files)
        return answer != HANG_UP

    def _take(self, request, files):
        """Of the files that come with a request, none is kept but the channel."""
        if request == SET_BACKEND_REQ_FD:
            self.channel = socket.socket(fileno=files.pop())
        for file in files:
            os.close(file)


def receive(connection):
    """The next message: its number, its flags, its body, and the files that come with it; None at the end."""
    head, files, _, _ = socket.recv_fds(connection, HEADER.size, MOST_FILES, socket.MSG_WAITALL)
    if len(head) < HEADER.size:
        return None
    request, flags, size = HEADER.unpack(head)
    return request, flags, connection.recv(size, socket.MSG_WAITALL) if size else b"", files


def send(connection, data, files):
    """Sends data, and gives files away with it."""
    sent = socket.send_fds(connection, [data], files) if files else 0
    for file in files:
        os.close(file)
    connection.sendall(data[sent:])


def honest(request, flags, body):
    if request in NUMBERS:
        return reply(request, number(NUMBERS[request]))
    if request == GET_CONFIG:
        room = len(body) - 12
        return reply(request, body[:12] + CONFIG.ljust(room, b"\0")[:room])
    if request == GET_VRING_BASE:
        return reply(request, body)
    if request == GET_INFLIGHT_FD:
        return inflight(4096, 0, file_of(4096))
    return reply(request, number(0)) if flags & NEED_REPLY else None
